"""A toy backend: gradient descent on the linear model, in NumPy."""
