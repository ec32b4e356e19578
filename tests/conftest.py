"""Set before PyTorch is imported, here and in started processes: these networks are too small for threads."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
