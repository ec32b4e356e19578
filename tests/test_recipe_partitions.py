import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from clusterloom.recipe.points.partitions import adjusted_rand_index, counts_of


@pytest.mark.parametrize("seed", range(20))
def test_adjusted_rand_index_is_scikit_learns(seed):
    generator = np.random.default_rng(seed)
    n = int(generator.integers(1, 60))
    one = generator.integers(0, generator.integers(1, 8), n)
    moved = np.where(generator.random(n) < generator.random(), one, generator.integers(0, 9, n)).astype(np.int32)
    for other in (moved, one, np.zeros(n, int), np.arange(n)):
        assert adjusted_rand_index(one, other) == pytest.approx(adjusted_rand_score(one, other), abs=1e-12)


def test_adjusted_rand_index_of_many_images():
    one, other = np.arange(200_000) % 7, np.arange(200_000) % 11
    assert adjusted_rand_index(one, other) == pytest.approx(adjusted_rand_score(one, other), abs=1e-12)


def test_counts_of_keeps_parts_without_images():
    counts = counts_of(np.array([0, 2, 2]), np.array([1, 0, 1]), 4, 2)
    assert counts.tolist() == [[0, 1], [0, 0], [1, 1], [0, 0]]
