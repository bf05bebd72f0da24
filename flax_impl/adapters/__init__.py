"""Modules of other libraries than linen: as linen modules, and as trees of arrays by name."""
