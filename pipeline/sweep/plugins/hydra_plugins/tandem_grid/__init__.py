"""Plugin for `-m`: a sweep over all combinations of the listed values."""
