"""Numbers as people read them."""

from typing import Any


def percent(share: float, decimals: int = 1) -> str:
    r"""A share in per cent, never rounded up to all or down to nothing; its spaces do not break.

    Example:
        >>> [percent(share).replace("\u00a0", " ") for share in (0.9876, 0.99996, 1.0, 0.0001)]
        ['98.8 %', '>99.9 %', '100 %', '<0.1 %']
        >>> [percent(share, 0).replace("\u00a0", " ") for share in (0.9876, 0.99996, 0.0001)]
        ['99 %', '>99 %', '<1 %']
    """
    smallest = 10.0**-decimals
    if share in (0, 1):
        number = f"{100 * share:.0f}"
    elif share < smallest / 200:
        number = f"<{smallest:g}"
    elif share >= 1 - smallest / 200:
        number = f">{100 - smallest:g}"
    else:
        number = f"{100 * share:.{decimals}f}"
    return f"{number}\u00a0%"


def number(value: float) -> str:
    """A number with three significant digits or so, as charts and tables need them.

    Example:
        >>> number(1234.5), number(45.678), number(0.12345), number(-2.5), number(0.0)
        ('1,234', '45.7', '0.123', '-2.50', '0.00')
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 or value == 0 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds as people say them.

    Example:
        >>> duration(3.21), duration(75), duration(7384)
        ('3.2 s', '1 min 15 s', '2 h 3 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def plain(value: Any) -> str:
    """A setting as Python writes it, numbers to four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(plain(v) for v in value) + ")"
    return repr(value)
