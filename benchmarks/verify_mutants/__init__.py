"""Pairs of models with and without a known mistake: what `pipeline.verify` is measured against."""
