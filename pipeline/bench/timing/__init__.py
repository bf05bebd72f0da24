"""Timing of the backends' own steps: processes that take turns, over batch sizes and precisions."""
