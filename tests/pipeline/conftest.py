"""What tests of the core share."""

import os

import pytest


@pytest.fixture
def wandb_offline(monkeypatch):
    """W&B as it is without an account, and without what an earlier test has left of it."""
    import wandb

    wandb.teardown()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
