"""A local page to look at clusters, correct them and make new images: `clusterloom explore`."""
