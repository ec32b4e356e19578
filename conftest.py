"""For all tests and doctests: one thread each, Ctrl-C as in a terminal, a cache of their own, skips that fail."""

import os
import re
import signal
from collections.abc import Generator, Iterator

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that is skipped for a reason in which CLUSTERLOOM_NO_SKIPS, a regular expression, is found fails."""
    report = yield
    pattern = os.environ.get("CLUSTERLOOM_NO_SKIPS")
    if pattern and report.skipped and isinstance(report.longrepr, tuple) and re.search(pattern, report.longrepr[2]):
        report.outcome, report.longrepr = "failed", f"{report.longrepr[2]}, but CLUSTERLOOM_NO_SKIPS={pattern}"
    return report
