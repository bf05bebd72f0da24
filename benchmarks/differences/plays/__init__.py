"""Form of a row's code: a value, a layer, an optimizer, a schedule or initial values."""
