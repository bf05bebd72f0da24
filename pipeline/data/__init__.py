"""Data: the samples, and their order."""
