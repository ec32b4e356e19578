"""Edits of the clusters, and the parts that a cluster would fall into."""

import numpy as np
from starlette.responses import JSONResponse, Response

from clusterloom.explore.edits import Entry
from clusterloom.explore.requests import ClusterNumber, Revision
from clusterloom.explore.routes.state import state
from clusterloom.explore.session import Session
from clusterloom.explore.split import split_in_two

_SHOWN = 24


def edit(session: Session, edit: Entry, revision: Revision) -> Response:
    """Make, undo or redo an edit of the state with that number; the answer is the new state."""
    session.collection.editor.edit(edit, revision)
    return state(session)


def split_preview(session: Session, cluster: ClusterNumber) -> Response:
    """The two parts that a cluster would fall into; nothing is changed."""
    collection = session.collection
    revision = collection.editor.revision  # read first: what is newer than its number is refused
    assignment = collection.assignment
    members = assignment.members(cluster)
    second = split_in_two(collection.predictions.latents[members])
    parts = [members[~second], members[second]]
    rank = collection.ranks["typical"]
    shown = [part[np.argsort(rank[part], kind="stable")[:_SHOWN]] for part in parts]
    return JSONResponse(
        {
            "revision": revision,
            "new": assignment.next_number,
            "sizes": [len(part) for part in parts],
            "images": [collection.briefs(rows) for rows in shown],
            "rows": parts[1].tolist(),
        }
    )
