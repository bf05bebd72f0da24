"""Weights & Biases, with or without an account: one run per job, one per comparison of a sweep."""
