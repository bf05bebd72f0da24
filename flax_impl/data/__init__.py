"""Batches for training and evaluation, and the raw image data sets; see `pipeline.data`."""
