"""For all tests and doctests: one thread each, Ctrl-C as in a terminal, and a cache of their own."""

import os
import signal
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("explore_browser")  # fixtures and assertions that the page's tests share

# Before PyTorch is imported, here and in started processes: these networks are too small for threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts background jobs with Ctrl-C ignored, and what the tests start and interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from the user's cache, nor written there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLUSTERLOOM_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("CLUSTERLOOM_CACHE_GB", raising=False)
        yield
