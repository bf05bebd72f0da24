"""Plugin for `hydra/launcher=slurm`: submitit submits each job of a sweep as a Slurm job."""
