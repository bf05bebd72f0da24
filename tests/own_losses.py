"""The same losses in torch and JAX, as a user brings them with `task=own`."""

import jax.numpy as jnp
import torch


def torch_huber(outputs, batch, delta=1.0):
    """Huber loss of each sample and the mean absolute error, as a mapping."""
    error = (outputs - batch["target"]).abs()
    small = error.clamp(max=delta)
    return {"loss": (small * (error - small / 2)).mean(1), "mae": error.mean(1)}


def jax_huber(outputs, batch, delta=1.0):
    """The JAX twin."""
    error = jnp.abs(outputs - batch["target"])
    small = error.clip(max=delta)
    return {"loss": (small * (error - small / 2)).mean(1), "mae": error.mean(1)}


def torch_mean(outputs, batch):
    """Mean squared error of a batch, one number."""
    return torch.nn.functional.mse_loss(outputs, batch["target"])


def jax_mean(outputs, batch):
    """The JAX twin."""
    return jnp.square(outputs - batch["target"]).mean()


def torch_pairs(outputs, batch, margin=1.0):
    """Contrastive loss of each sample with all others, and the mean distance of a batch, one number."""
    outputs = outputs.flatten(start_dim=1)
    distance = (outputs[:, None] - outputs).square().sum(-1)
    same = batch["label"][:, None] == batch["label"]
    loss = torch.where(same, distance, (margin - distance).clamp(min=0))
    return {"loss": loss.mean(1), "distance": distance.mean()}


def jax_pairs(outputs, batch, margin=1.0):
    """The JAX twin."""
    outputs = outputs.reshape(len(outputs), -1)
    distance = jnp.square(outputs[:, None] - outputs).sum(-1)
    same = batch["label"][:, None] == batch["label"]
    loss = jnp.where(same, distance, (margin - distance).clip(min=0))
    return {"loss": loss.mean(1), "distance": distance.mean()}


def root(means):
    """Metrics from the means over the samples."""
    return {"rmse": means["loss"] ** 0.5}


def whole(outputs, batch):
    """A loss that is no number."""
    return outputs


def broken(outputs, batch):
    """A loss that fails."""
    return outputs - batch["missing"]
