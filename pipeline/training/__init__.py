"""Training: the definition of a step, the same for every backend."""
