"""Pairs of models by others, to measure `pipeline.verify` on."""
