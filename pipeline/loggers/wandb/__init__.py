"""Weights & Biases, with or without an account: one run per job, and one for a sweep's comparison."""

from pipeline.loggers.wandb.logger import WandbLogger, open_wandb

__all__ = ["WandbLogger", "open_wandb"]
