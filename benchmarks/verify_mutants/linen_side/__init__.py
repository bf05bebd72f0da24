"""Base models in Flax linen."""
