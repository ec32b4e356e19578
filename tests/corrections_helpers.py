"""Four images in three clusters, and what a user has said of them."""

import numpy as np

from clusterloom.corrections.assignment import Assignment
from clusterloom.corrections.edits import ENTRY

PROBA = np.array([[0.6, 0.3, 0.1], [0.5, 0.1, 0.4], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6]], np.float32)


def assigned(*edits):
    assignment = Assignment(PROBA.argmax(1), 3)
    for edit in edits:
        assignment.apply(ENTRY.validate_python(edit))
    return assignment
