"""Measurements: speed, agreement of the backends, differences between the frameworks."""
