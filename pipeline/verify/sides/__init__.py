"""Models under check, each in a process of its own."""
