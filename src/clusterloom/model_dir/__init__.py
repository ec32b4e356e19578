"""Model directories: written so that nothing is lost, read so that nothing is trusted."""
