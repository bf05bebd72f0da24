"""Comparison of two aligned models, and the place where they part."""
