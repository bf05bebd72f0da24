"""Storage: the files of a run on disk."""
