"""Models of torch under check, for `pipeline.verify`."""
