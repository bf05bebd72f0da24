"""Values and names that a run starts from."""
