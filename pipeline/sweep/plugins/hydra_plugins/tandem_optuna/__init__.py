"""Plugin for `hydra/sweeper=optuna`: a search by Optuna that resumes where it stopped."""
