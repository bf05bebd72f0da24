"""Execution in float64, one primitive operation at a time."""
