"""Checks and measurements of a machine with one or more GPUs: `make gpu`."""
