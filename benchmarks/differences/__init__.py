"""Differences between torch and JAX's libraries, measured in float64: the rows of docs/differences.md."""
