"""Checks of what the user has typed, with errors that name the key, the value and the way out."""
