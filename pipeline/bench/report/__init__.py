"""The page of a benchmark, in the style of the report."""
