"""In which order to ask a user about images, so that few answers tell much.

The most doubtful images of all lie in few places, odd ones among them, and what is said of them holds for little else.
So images are divided into groups of which each has its share of the doubt, and of each group one is asked about that
stands for it.
"""

import numpy as np

_GROUPS = 1024  # from there on the most doubtful image that is left comes next


def question_order(features: np.ndarray, doubt: np.ndarray) -> np.ndarray:
    """Rows of images, those whose answer tells most first.

    The group with the most doubt in it is divided in two, along the direction in which its images differ most
    (principal direction divisive partitioning: Boley, 1998), and each part without a question gets one: about the
    image that is nearest to its middle. In both, images count by their doubt. Again and again, up to 1,024 groups; then
    the other images follow, the most doubtful first.

    Args:
        features: What images are compared by, shape (N, D).
        doubt: How likely each image is in the wrong cluster, not negative, shape (N,).

    Returns:
        Shape (N,), int64.

    Example:
        >>> places, doubt = np.array([[0.0], [0.2], [5.0], [9.0]]), np.array([0.4, 0.3, 0.0, 0.5])
        >>> question_order(places, doubt).tolist()
        [2, 0, 1, 3]
    """
    asked: list[int] = []
    groups = [np.arange(len(doubt))]
    shares = [float(doubt.sum())]
    _ask(groups[0], features, doubt, asked)
    while len(groups) < min(_GROUPS, len(doubt)) and max(shares) > 0:
        largest = int(np.argmax(shares))
        parts = _divided(groups[largest], features, doubt)
        if not parts:
            shares[largest] = 0.0
            continue
        groups[largest : largest + 1] = parts
        shares[largest : largest + 1] = [float(doubt[rows].sum()) for rows in parts]
        for rows in parts:
            _ask(rows, features, doubt, asked)
    rest = np.setdiff1d(np.arange(len(doubt)), asked)
    return np.concatenate([np.array(asked, np.int64), rest[np.argsort(-doubt[rest], kind="stable")]])


def _ask(rows: np.ndarray, features: np.ndarray, doubt: np.ndarray, asked: list[int]) -> None:
    """Ask about the image in the middle of a group, if there is doubt in it and no question about it yet."""
    if doubt[rows].sum() > 0 and not np.isin(rows, asked).any():
        middle = np.average(features[rows], axis=0, weights=doubt[rows])
        asked.append(int(rows[np.square(features[rows] - middle).sum(1).argmin()]))


def _divided(rows: np.ndarray, features: np.ndarray, doubt: np.ndarray) -> list[np.ndarray]:
    """The two parts of a group; none where its doubtful images are all alike."""
    points, weights = features[rows].astype(np.float64), doubt[rows].astype(np.float64)
    points -= np.average(points, axis=0, weights=weights)
    direction = np.linalg.eigh((points * weights[:, None]).T @ points)[1][:, -1]
    direction *= np.sign(direction[np.abs(direction).argmax()])  # either sign is right, and machines differ in it
    side = points @ direction > 0
    doubtful = side[weights > 0]
    return [rows[~side], rows[side]] if doubtful.any() and not doubtful.all() else []
