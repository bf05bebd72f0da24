"""Replay: a recorded pass, run again with some of its operations changed."""
