"""A new fit from the corrections, in the background, and the page's way to the model that it makes."""

from starlette.responses import JSONResponse, Response

from clusterloom.corrections.assignment import UNSEEN
from clusterloom.errors import DataError, printable
from clusterloom.explore.session import Session


def refit_state(session: Session) -> Response:
    """Whether a refit is possible, and how far the last one is, as JSON."""
    return JSONResponse(_state(session))


def start_refit(session: Session) -> Response:
    """Begin one; the answer is its state."""
    if not session.refits:
        raise DataError("only models of the guided recipe can be fitted again, with the images at hand")
    if not _heard(session):
        raise DataError("nothing has been corrected yet that a new fit could begin with")
    session.refit()
    return JSONResponse(_state(session))


def cancel_refit(session: Session) -> Response:
    """End the one that runs; the answer is its state."""
    if session.refitting is not None:
        session.refitting.cancel()
    return JSONResponse(_state(session))


def open_refitted(session: Session) -> Response:
    """Show the new model in place of this one, on every page; the answer is its version."""
    if session.refitting is None or not session.refitting.succeeded:
        raise DataError("there is no new model to open")
    return JSONResponse({"version": session.open_refitted().version})


def _heard(session: Session) -> int:
    """Corrections that a refit would begin with: answers about images, and clusters merged or made."""
    if not session.ready:
        return 0
    assignment = session.collection.assignment
    looked_at = int((assignment.marks != UNSEEN).sum())
    return looked_at + len(assignment.merged_into) + len(assignment.founders)


def _state(session: Session) -> dict[str, object]:
    running = session.refitting
    said = (
        {}
        if running is None
        else {
            "running": running.running,
            "cancelled": running.cancelled,
            "done": running.succeeded,
            "text": running.text,
            "share": running.share,
            "seconds": running.seconds,
            "out": printable(str(running.out)),
            "name": printable(running.out.name),
        }
    )
    return {"possible": session.refits and session.ready, "heard": _heard(session), "last": said or None}
