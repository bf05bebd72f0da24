"""Models of JAX under check, for `pipeline.verify`."""
