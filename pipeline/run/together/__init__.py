"""Runs that train at once."""
