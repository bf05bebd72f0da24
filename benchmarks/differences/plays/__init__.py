"""How the code of a row is run: as a value, a layer, an optimizer, a schedule or initial values."""
