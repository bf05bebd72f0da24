"""Records of the operations that a model executes."""
