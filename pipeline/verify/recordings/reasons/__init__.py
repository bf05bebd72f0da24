"""Likely reasons for which two recorded loops part."""
