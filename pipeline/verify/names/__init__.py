"""Text of an alignment: rows in NumPy's notation, and the file of them, `names.yaml`."""
