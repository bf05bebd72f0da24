"""Base models in torch."""
