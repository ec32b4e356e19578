"""Predictions of sources that lie in many shards: a table for each, made by any number of machines."""
