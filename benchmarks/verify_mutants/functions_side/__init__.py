"""A few base models as pairs of plain functions of JAX."""
