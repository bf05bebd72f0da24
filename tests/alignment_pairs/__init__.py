"""Pairs of models that compute the same, written in two styles, for the tests of alignment."""
