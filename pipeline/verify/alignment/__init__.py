"""Alignment: which parameters of two models are the same, found from how they are used."""
