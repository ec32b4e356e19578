"""The number of clusters, where none is given."""
