"""Principal components of many points, in little memory."""

from collections.abc import Iterator

import numpy as np

_PART = 20_000  # points in 64 bits at once


def principal_components(points: np.ndarray, n: int) -> np.ndarray:
    """The first n principal components of points (N, D), shape (N, n), float32."""
    centre = points.mean(0, dtype=np.float64)

    def parts() -> Iterator[tuple[slice, np.ndarray]]:
        for start in range(0, len(points), _PART):
            rows = slice(start, start + _PART)
            yield rows, points[rows] - centre

    if len(points) > points.shape[1]:  # the same directions, from a matrix that does not grow with N
        directions = np.linalg.eigh(sum(part.T @ part for _, part in parts()))[1].T[::-1]
    else:
        directions = np.linalg.svd(points - centre, full_matrices=False)[2]
    components = np.zeros((len(points), n), np.float32)
    for rows, part in parts():
        components[rows, : len(directions)] = part @ directions[:n].T
    return components
