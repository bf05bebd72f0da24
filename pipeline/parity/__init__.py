"""Parity: compare an experiment on two backends, and find the first step and quantity that differ.

Both train in lockstep, and report the parts of every step to an observer (`run.step_observer`).
"""
