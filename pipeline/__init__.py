"""What an experiment is: the neutral core. It knows NumPy and the file system, and no framework."""
