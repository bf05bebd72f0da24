"""Page and picture of a verdict."""
