"""A few base models in Flax NNX."""
