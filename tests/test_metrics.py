"""Scores: relabelling, hand-worked constants, chance level, error text."""

import numpy as np
import pytest

from clusterloom import metrics
from clusterloom.errors import DataError

SCORES = (
    metrics.clustering_accuracy_score,
    metrics.majority_vote_purity_score,
    metrics.normalized_mutual_information_score,
)


@pytest.mark.parametrize("score", SCORES)
def test_perfect_under_any_relabelling(score):
    labels = np.random.default_rng(0).integers(0, 6, 500)
    renamed = np.array([40, 3, 17, 0, 9, 28])[labels]
    assert score(labels, renamed) == pytest.approx(1)


def test_known_constants():
    # contingency: class 0: [3, 1, 0], class 1: [2, 0, 2]; matching 0->0, 1->2 gives 5 of 8; majorities 3 + 1 + 2 = 6
    labels_true = [0, 0, 0, 0, 1, 1, 1, 1]
    labels_pred = [0, 0, 0, 1, 0, 0, 2, 2]
    assert metrics.clustering_accuracy_score(labels_true, labels_pred) == 5 / 8
    assert metrics.majority_vote_purity_score(labels_true, labels_pred) == 6 / 8


def test_matching_is_globally_best_and_not_greedy():
    # Greedy takes the largest cell (6) and is left with 0; the best matching is 5 + 5.
    labels_true = [0] * 11 + [1] * 5
    labels_pred = [0] * 6 + [1] * 5 + [0] * 5
    assert metrics.clustering_accuracy_score(labels_true, labels_pred) == 10 / 16


def test_chance_level():
    rng = np.random.default_rng(0)
    labels_true, labels_pred = rng.integers(0, 10, (2, 20_000))
    assert metrics.clustering_accuracy_score(labels_true, labels_pred) == pytest.approx(0.11, abs=0.01)
    assert metrics.normalized_mutual_information_score(labels_true, labels_pred) < 0.01


def test_purity_is_never_below_accuracy():
    rng = np.random.default_rng(1)
    for k in (2, 5, 30):
        labels_true, labels_pred = rng.integers(0, 5, 300), rng.integers(0, k, 300)
        scores = metrics.label_scores(labels_true, labels_pred)
        assert scores["purity"] >= scores["accuracy"] > 0


def test_per_class_table_names_the_confusion():
    labels_true = np.array([4] * 10 + [9] * 10 + [7] * 10)
    labels_pred = np.array([0] * 7 + [1] * 3 + [1] * 10 + [2] * 10)
    table = metrics.per_class_table(labels_true, labels_pred)
    assert [(r.label, r.cluster, r.images, r.recall, r.confused_with) for r in table] == [
        (4, 0, 10, 0.7, 9),
        (7, 2, 10, 1.0, None),
        (9, 1, 10, 1.0, None),
    ]
    assert table[2].precision == pytest.approx(10 / 13)


def test_per_class_table_with_fewer_clusters_than_classes():
    table = metrics.per_class_table(np.array([0, 0, 1]), np.array([5, 5, 5]))
    assert table[0].cluster == 5
    assert table[1].cluster is None
    assert table[1].recall == 0


def test_calibration_error_of_known_tables():
    proba = np.array([[0.9, 0.1]] * 10)
    assert metrics.expected_calibration_error([0] * 9 + [1], proba) == pytest.approx(0)
    assert metrics.expected_calibration_error([0] * 5 + [1] * 5, proba) == pytest.approx(0.4)


def test_errors_name_the_lengths():
    with pytest.raises(DataError, match="3 true labels but 2 predicted"):
        metrics.clustering_accuracy_score([0, 1, 2], [0, 1])
    with pytest.raises(DataError, match="no labels"):
        metrics.majority_vote_purity_score([], [])


def test_silhouette_of_separated_and_of_mixed_clusters():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 100)
    latents = rng.normal(size=(200, 3)) + 50 * labels[:, None]
    assert metrics.sampled_silhouette_score(latents, labels) > 0.9
    assert abs(metrics.sampled_silhouette_score(rng.normal(size=(200, 3)), labels)) < 0.1
    assert metrics.sampled_silhouette_score(latents, np.zeros(200, int)) is None
