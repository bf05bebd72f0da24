"""Adapters of the kinds of models, one file each."""
