"""From corrections to the start of a new fit, and from there into the journal of the new model."""

import numpy as np

from clusterloom.corrections.apply import probabilities_of
from clusterloom.corrections.assignment import CONFIRMED, OUTLIER, Assignment
from clusterloom.corrections.edits import Confirm, Edit, Move
from clusterloom.corrections.edits import Outlier as MarkedOutlier
from clusterloom.recipe.refit import NOBODY, Answers


def refitted_clusters(assignment: Assignment) -> list[int]:
    """Numbers of the clusters that a new fit has, ascending: those with an image that is no outlier.

    The new model numbers them anew, from 0.
    """
    return np.unique(assignment.labels[assignment.marks != OUTLIER]).tolist()


def answers_of(assignment: Assignment, proba: np.ndarray) -> Answers:
    """What a user has said, as `clusterloom.GuidedClusterer.refit` takes it.

    Args:
        assignment: The clusters as they are by now, of N images.
        proba: What the model says of its own clusters, shape (N, K).

    Returns:
        Of the clusters that `refitted_clusters` names, M of them.
    """
    clusters = refitted_clusters(assignment)
    of_all = probabilities_of(proba, assignment)
    q = of_all[:, clusters]
    model_labels = proba.argmax(1)
    for k in np.setdiff1d(np.flatnonzero(of_all.sum(0)), clusters):  # emptied by hand: it went where its images went
        went = assignment.labels[(model_labels == k) & np.isin(assignment.labels, clusters)]
        if len(went):
            q[:, clusters.index(int(np.bincount(went).argmax()))] += of_all[:, k]
    q = np.maximum(q, 1e-6)
    confirmed = np.full(len(proba), NOBODY)
    said = assignment.marks == CONFIRMED
    confirmed[said] = np.searchsorted(clusters, assignment.labels[said])
    return Answers(q / q.sum(1, keepdims=True), confirmed, assignment.marks == OUTLIER)


def carried_on(answers: Answers, labels: np.ndarray) -> list[Edit]:
    """Edits of the new model's clusters that say again what a user has said of single images.

    Args:
        answers: What the new model was fitted to.
        labels: Where it puts the images, shape (N,).
    """
    said = answers.confirmed != NOBODY
    edits: list[Edit] = []
    if (kept := np.flatnonzero(said & (answers.confirmed == labels))).size:
        edits.append(Confirm(op="confirm", rows=kept.tolist(), clusters=labels[kept].tolist()))
    for k in np.unique(answers.confirmed[said & (answers.confirmed != labels)]).tolist():
        rows = np.flatnonzero((answers.confirmed == k) & (labels != k))
        edits.append(Move(op="move", rows=rows.tolist(), to=k))
    if answers.outlier.any():
        edits.append(MarkedOutlier(op="outlier", rows=np.flatnonzero(answers.outlier).tolist()))
    return edits
