"""Stages of the check of two models, in the order of cause and effect."""
