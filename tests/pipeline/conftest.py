"""Fixtures shared by tests of the core."""

import os

import pytest


@pytest.fixture
def wandb_offline(monkeypatch):
    """Offline W&B without an account or state of earlier tests."""
    import wandb

    wandb.teardown()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
