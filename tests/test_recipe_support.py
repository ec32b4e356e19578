"""What guides, ties and other divisions say of clusters that were found."""

import numpy as np
import pytest

from clusterloom.recipe.learning.support import belonging, odds_by_size, supported, votes

LABELS = np.repeat(np.arange(4), 100)
NONE_OF_2, NONE_OF_3, NONE_OF_4 = (np.zeros(n, bool) for n in (2, 3, 4))


def test_guides_vote_under_any_numbers_and_each_space_has_one_vote():
    renamed = np.array([2, 0, 3, 1])
    moved = np.where(np.arange(400) % 10 == 0, (LABELS + 1) % 4, LABELS)  # a tenth of the images in another cluster
    found = votes(LABELS, {"one": np.stack([renamed[LABELS], renamed[::-1][moved]]), "other": LABELS[None]}, 4)
    np.testing.assert_allclose(found, (np.eye(4)[LABELS] / 2 + np.eye(4)[moved] / 2) / 2 + np.eye(4)[LABELS] / 2)


def test_what_a_guide_has_in_no_cluster_of_the_model_counts_for_nothing():
    finer = np.where((LABELS == 3) & (np.arange(400) >= 360), 4, LABELS)
    found = votes(LABELS, {"one": finer[None]}, 4)
    assert (found[360:] == 0).all()
    np.testing.assert_array_equal(found[:360], np.eye(4)[LABELS[:360]])


def test_groups_belong_where_ties_lead_beside_what_chance_would_give():
    """Groups of one image: two in cluster 0, two in cluster 1; the last one is tied to the first three alike."""
    ties = np.array([[0, 4, 1, 1], [4, 0, 0, 1], [1, 0, 6, 1], [1, 1, 1, 0]], float)
    found = belonging(np.array([0, 0, 1, 1]), np.arange(4), ties, 2)
    # Each cluster has eleven ties. The third group is half of its cluster: its ties within itself count half.
    np.testing.assert_allclose(found[2], [1 / 5, 4 / 5])
    np.testing.assert_allclose(found[3], [2 / 3, 1 / 3])


def test_a_group_that_is_its_whole_cluster_belongs_there_and_one_without_ties_anywhere():
    ties = np.array([[5, 1, 0], [1, 5, 0], [0, 0, 0]], float)
    found = belonging(np.array([0, 1, 1]), np.arange(3), ties, 2)
    assert found[0, 0] > 0.8
    np.testing.assert_allclose(found[2], [0.5, 0.5])


def test_all_say_together_and_an_image_stays_in_its_cluster():
    q = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
    guides, groups = {"one": np.array([[0, 1, 1, 1]])}, np.array([0, 1, 2, 2])
    found = supported(
        q, guides, groups, np.array([[1, 0, 0], [0, 1, 9], [0, 9, 9]], float), np.zeros((4, 2)), NONE_OF_2
    )
    np.testing.assert_allclose(found.sum(1), 1)
    assert found[0, 0] == pytest.approx(found[0].max())
    assert found[0, 0] > 0.9
    np.testing.assert_allclose(found[1], [2 / 3, 1 / 3])  # guides and ties say the other one, and are heard as doubt


@pytest.mark.parametrize(("n", "least", "most"), [(40, 0.5, 0.8), (4000, 0.9, 1)])
def test_other_divisions_are_heard_the_more_the_fewer_images_there_are(n, least, most):
    labels, elsewhere = np.arange(n) % 2, np.where(np.arange(n) < n // 10, 1 - np.arange(n) % 2, np.arange(n) % 2)
    q = 0.8 * np.eye(2)[labels] + 0.1
    found = supported(q, {"one": labels[None]}, labels, np.diag([0.5, 0.5]), np.eye(2)[elsewhere], NONE_OF_2)
    unheard = supported(q, {"one": labels[None]}, labels, np.diag([0.5, 0.5]), np.zeros((n, 2)), NONE_OF_2)
    own = found[np.arange(n), labels] / unheard[np.arange(n), labels]
    disputed = labels != elsewhere
    assert least < own[disputed].max() < most
    assert own[~disputed].min() >= 1


def test_signs_are_doubted_whose_neighbours_by_their_strokes_are_elsewhere():
    labels = np.repeat([0, 1], 20)
    near = np.where(labels[:, None] == 0, [[0, 1, 2]], [[20, 21, 22]])
    near[3] = [20, 21, 22]
    others = np.zeros((40, 2))
    found = supported(
        0.8 * np.eye(2)[labels] + 0.1, {"one": labels[None]}, labels, np.eye(2) / 2, others, NONE_OF_2, near
    )
    own = found[np.arange(40), labels]
    assert own[3] < np.delete(own, 3).min() - 0.1
    np.testing.assert_array_equal(found.argmax(1), labels)


def test_images_in_clusters_of_odd_size_are_doubted_whatever_else_is_said():
    labels = np.repeat([0, 1, 2], [200, 100, 60])
    said = np.eye(3)[labels]

    def own_of(of_any_size):
        """The share of each image's own cluster."""
        ties, none = np.diag([0.5, 0.3, 0.2]), np.zeros((360, 3))
        found = supported(0.8 * said + 0.2 / 3, {"one": labels[None]}, labels, ties, none, of_any_size)
        np.testing.assert_array_equal(found.argmax(1), labels)
        return found[np.arange(360), labels]

    own = own_of(NONE_OF_3)
    assert own[labels == 1].min() > own[labels == 0].max()
    assert own[labels == 1].min() > own[labels == 2].max()
    assert np.ptp(own_of(~NONE_OF_3)) < 1e-9


def test_where_kinds_are_unequal_large_clusters_are_believed():
    odds = odds_by_size(np.repeat([0, 1, 2, 3], [400, 400, 40, 40]), NONE_OF_4)
    np.testing.assert_array_equal(odds[:2], 1)
    assert odds[2:].max() < 0.05


def test_sizes_that_differ_by_chance_count_for_nothing():
    np.testing.assert_array_equal(odds_by_size(np.repeat([0, 1, 2], [12, 10, 8]), NONE_OF_3), 1)
    odds = odds_by_size(np.repeat([0, 1, 2], [1200, 1000, 800]), NONE_OF_3)
    assert odds.max(initial=0, where=[True, False, True]) < 0.9
