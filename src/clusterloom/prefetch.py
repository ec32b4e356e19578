"""The next thing made while the caller works with this one."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def ahead(make: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """Like `map(make, items)`, one item ahead, on a thread of its own.

    Args:
        make: Must not depend on what the caller does with the results before.
        items: What to make something of.

    Example:
        >>> list(ahead(str, [1, 2, 3]))
        ['1', '2', '3']
    """
    with ThreadPoolExecutor(1) as thread:
        made = None
        for item in items:
            following = thread.submit(make, item)
            if made is not None:
                yield made.result()
            made = following
        if made is not None:
            yield made.result()
