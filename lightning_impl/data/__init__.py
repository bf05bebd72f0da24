"""Data of the experiment, as the training takes it, and the raw image data sets; see `pipeline.data`."""
