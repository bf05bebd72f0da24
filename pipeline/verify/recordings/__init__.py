"""Recordings of two training loops, made anywhere, and their comparison."""
