"""Edits of the clusters, what has been edited, and the parts that a cluster would fall into."""

from starlette.responses import JSONResponse, Response

from clusterloom.corrections.edits import Entry, described
from clusterloom.corrections.forms import ClusterNumber
from clusterloom.explore.requests import Parts, Revision
from clusterloom.explore.routes.state import state
from clusterloom.explore.session import Session
from clusterloom.explore.split import split_in

_SHOWN = 24
_LISTED = 200


def edit(session: Session, edit: Entry, revision: Revision) -> Response:
    """Make, undo or redo an edit of the state with that number; the answer is the new state."""
    session.collection.editor.edit(edit, revision)
    return state(session)


def history(session: Session) -> Response:
    """The edits that hold, the last one first, and of those that were taken back the one that redo would make first."""
    editor = session.collection.editor
    done, undone = editor.history.done, editor.history.undone
    title = editor.assignment.title
    return JSONResponse(
        {
            "revision": editor.revision,
            "total": len(done),
            "done": [described(one, title) for one in done[::-1][:_LISTED]],
            "undone": [described(one, title) for one in undone[::-1][:_LISTED]],
        }
    )


def split_preview(session: Session, cluster: ClusterNumber, parts: Parts = 2) -> Response:
    """The parts that a cluster would fall into; nothing is changed."""
    collection = session.collection
    revision = collection.editor.revision  # read first: what is newer than its number is refused
    assignment = collection.assignment
    members = assignment.members(cluster)
    found = split_in(collection.predictions.latents[members], parts)
    rows = [members[found == part] for part in range(found.max() + 1)]
    shown = [collection.in_order(part, "typical")[:_SHOWN] for part in rows]
    return JSONResponse(
        {
            "revision": revision,
            "new": assignment.next_number,
            "sizes": [len(part) for part in rows],
            "images": [collection.briefs(some) for some in shown],
            "parts": [part.tolist() for part in rows[1:]],
        }
    )
