"""Set before PyTorch is imported, here and in started processes: these networks are too small for threads."""

import os
import signal

# A shell starts background jobs with Ctrl-C ignored, and what the tests start and interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_NUM_THREADS", "1")
