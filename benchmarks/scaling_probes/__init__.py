"""Measurements of `benchmarks/scaling.py`: each is made in a process of its own."""
