"""Neutral core of an experiment, which imports no framework."""
