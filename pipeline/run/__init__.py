"""A run: one job from its config to its result."""
