"""A few base models in Equinox."""
