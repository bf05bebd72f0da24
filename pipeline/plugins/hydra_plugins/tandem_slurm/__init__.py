"""`hydra/launcher=slurm`: each job of a sweep becomes a job of Slurm's, submitted by submitit."""
