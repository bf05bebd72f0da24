"""The experiment on PyTorch Lightning. Its twin is flax_impl: the same files, the same names."""
