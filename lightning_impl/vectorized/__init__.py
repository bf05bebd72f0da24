"""Several runs in one program: a stack of their states, and the loop over it."""
