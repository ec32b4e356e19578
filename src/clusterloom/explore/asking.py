"""What requests hold, read with suspicion: every field has a type and a range, and nothing else gets through."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from starlette.requests import Request

from clusterloom.errors import DataError


async def json_body(request: Request) -> dict[str, Any]:
    """The body as a JSON object; the guard limits how long it is.

    Raises:
        DataError: it is something else.
    """
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise DataError("expected a body of type application/json")
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise DataError("expected a JSON object")
    return body


def whole(values: Mapping[str, Any], name: str, low: int, high: int, default: int | None = None) -> int:
    """A whole number from `low` to `high`, from a JSON object or a query.

    Raises:
        DataError: it is missing, or something else.
    """
    value = values.get(name, default)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise DataError(f"{name} must be a whole number from {low} to {high}")
    return value


def real(values: Mapping[str, Any], name: str, low: float, high: float) -> float:
    """A finite number from `low` to `high`.

    Raises:
        DataError: it is missing, or something else.
    """
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise DataError(f"{name} must be a number from {low:g} to {high:g}")
    return float(value)


def choice(values: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str:
    """One of several words.

    Raises:
        DataError: it is missing, or another one.
    """
    value = values.get(name)
    if value not in choices:
        raise DataError(f"{name} must be one of {', '.join(choices)}")
    return str(value)


def offsets(values: Mapping[str, Any], name: str, length: int, limit: float) -> np.ndarray:
    """A list of `length` numbers from `-limit` to `limit`, as float32.

    Raises:
        DataError: it is something else.
    """
    value = values.get(name)
    numbers = all(
        isinstance(v, int | float) and not isinstance(v, bool) and -limit <= v <= limit
        for v in (value if isinstance(value, list) else ())
    )
    if not isinstance(value, list) or not numbers or len(value) != length:
        raise DataError(f"{name} must be {length} numbers from {-limit:g} to {limit:g}")
    return np.array(value, np.float32)


def row_list(text: str, n_images: int, most: int) -> np.ndarray:
    """Row numbers from text such as 3,17,4, in that order.

    Raises:
        DataError: it is something else, or longer than `most`.
    """
    parts = text.split(",", most)
    if not all(p.isascii() and p.isdigit() and len(p) < 10 for p in parts) or len(parts) > most:
        raise DataError(f"expected at most {most} row numbers separated by commas")
    rows = np.array([int(p) for p in parts], np.int64)
    if (rows >= n_images).any():
        raise DataError(f"there is no image {rows.max()}; they are numbered from 0 to {n_images - 1}")
    return rows
