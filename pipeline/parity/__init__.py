"""Whether an experiment is the same on both backends: where they part, from which step on, by how much.

Both train for real, in lockstep: after every step they show what it was made of (`pipeline.observer`).
"""
