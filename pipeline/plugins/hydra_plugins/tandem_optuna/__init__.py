"""`hydra/sweeper=optuna`: Hydra's own Optuna plugin, with searches that can be gone on with."""
