"""A local page to look at clusters, correct them and make new images: `clusterloom explore`."""

from clusterloom.explore.server import explore

__all__ = ["explore"]
