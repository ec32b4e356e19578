"""Stages 2 and 4, pseudo-labels. They see points alone, never images or labels, and know no network."""
