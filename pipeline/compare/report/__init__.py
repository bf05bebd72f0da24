"""Report of a comparison: one HTML page that opens from disk."""
