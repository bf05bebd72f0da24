"""Benchmark of one model: each backend's real training step and inference, over batch sizes.

The backends take turns, each in a process of its own. No framework is imported here.
"""
