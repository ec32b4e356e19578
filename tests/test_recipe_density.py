"""Whether divisions are told apart by clusters of any size."""

import numpy as np
import pytest

from clusterloom.recipe.density import agreement_with_density
from clusterloom.recipe.division import divide_ties, nothing_known

SIZES = [300, 150, 100, 50, 50, 30]


def blobs(sizes, seed=0):
    """Points around as many centres, shape (2, N, 3), and whose they are, (N,)."""
    kinds = np.repeat(np.arange(len(sizes)), sizes)
    points = np.random.default_rng(seed).normal(size=(2, len(kinds), 3))
    points[:, :, 0] += 12 * kinds
    return points, kinds


def agreement(layouts, weights, groups, n_clusters):
    return agreement_with_density(layouts, weights, groups, n_clusters, np.random.default_rng(0))


def test_the_kinds_agree_better_than_equal_clusters():
    layout, kinds = blobs(SIZES)
    halves = 2 * kinds + np.arange(len(kinds)) % 2
    agreed = agreement({"a": layout}, {"a": 1.0}, halves, 6)
    right, equal = np.arange(12) // 2, np.array([0, 1, 2, 2, 3, 3, 4, 4, 4, 4, 5, 5])
    assert agreed(right) > 0.95
    assert agreed(equal) < agreed(right) - 0.05


def test_spaces_are_heard_as_much_as_they_count():
    layout, kinds = blobs(SIZES)
    noise = np.random.default_rng(1).uniform(size=layout.shape)
    heard = [agreement({"a": layout, "b": noise}, {"a": a, "b": 1.0}, kinds, 6)(np.arange(6)) for a in (1.0, 9.0)]
    assert heard[1] > heard[0] + 0.2


def test_of_a_handful_of_images_density_says_nothing():
    layout, kinds = blobs([10] * 6)
    assert agreement({"a": layout}, {"a": 1.0}, kinds, 6)(np.arange(6)) == 0


def test_it_is_looked_for_when_it_is_first_asked_for(monkeypatch):
    layout, kinds = blobs(SIZES)
    monkeypatch.setattr("clusterloom.recipe.density.HDBSCAN", lambda **_: pytest.fail("nobody has asked"))
    agreement({"a": layout}, {"a": 1.0}, kinds, 6)


@pytest.mark.parametrize("knows", [True, False])
def test_moderately_unequal_kinds_are_found_if_the_judge_sees_them(knows):
    """Kinds of up to six times as many groups as others, the largest of two parts: sizes alone would not show it."""
    sizes = [50, 30, 14, 8, 8]
    kinds = np.repeat(np.arange(5), sizes)
    part = 2 * kinds + (np.arange(110) % 2) * (kinds < 2)
    ties = [np.where(part[:, None] == part, 1.0, np.where(kinds[:, None] == kinds, 0.15, 0.01))]

    def are_kinds(labels):
        return len(set(zip(labels.tolist(), kinds.tolist(), strict=True))) == 5

    judge = are_kinds if knows else nothing_known
    found = divide_ties(ties, np.full(110, 5), 5, np.random.default_rng(0), agreement=judge)
    assert are_kinds(found) == knows
