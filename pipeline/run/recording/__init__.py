"""Metrics, times and progress of a run, and who watches its steps."""
