"""The experiment on a Flax TrainState loop. Its twin is lightning_impl: the same files, the same names."""
