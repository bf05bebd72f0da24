"""Experiments from Python: `tandem.compose`, `tandem.run`, `tandem.load`, `tandem.compare`."""
