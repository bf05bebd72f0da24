"""The same losses in torch and JAX, as a user brings them with `task=own`."""

import jax
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


def torch_simclr(outputs, batch, temperature=0.3):
    """NT-Xent of two views [batch, 2, width], for each sample, and how many find each other."""
    views = torch.nn.functional.normalize(outputs.flatten(end_dim=1), dim=-1)
    scores = views @ views.T / temperature
    scores = scores.masked_fill(torch.eye(len(views), dtype=torch.bool), -torch.inf)
    other = torch.arange(len(views)) ^ 1
    loss = torch.nn.functional.cross_entropy(scores, other, reduction="none")
    hits = (scores.argmax(1) == other).to(views.dtype)
    return {"loss": loss.view(-1, 2).mean(1), "accuracy": hits.view(-1, 2).mean(1)}


def jax_simclr(outputs, batch, temperature=0.3):
    """The JAX twin."""
    views = outputs.reshape(-1, outputs.shape[-1])
    views = views / jnp.linalg.norm(views, axis=-1, keepdims=True)
    places = jnp.arange(len(views))
    scores = jnp.where(places[:, None] == places, -jnp.inf, views @ views.T / temperature)
    other = places ^ 1
    loss = jax.nn.logsumexp(scores, axis=1) - scores[places, other]
    hits = (scores.argmax(1) == other).astype(views.dtype)
    return {"loss": loss.reshape(-1, 2).mean(1), "accuracy": hits.reshape(-1, 2).mean(1)}


def torch_branching(outputs, batch):
    """A loss that looks at its numbers, which `torch.func.vmap` refuses."""
    loss = torch.nn.functional.cross_entropy(outputs, batch["label"], reduction="none")
    return loss if loss.mean() < 1e9 else loss.clamp(max=1e9)


def torch_drawing(outputs, batch):
    """A loss that draws native random numbers."""
    loss = torch.nn.functional.cross_entropy(outputs, batch["label"], reduction="none")
    return loss * (1 + torch.rand(()))


def root(means):
    """Metrics from the means over the samples."""
    return {"rmse": means["loss"] ** 0.5}


def whole(outputs, batch):
    """A loss that is no number."""
    return outputs


def broken(outputs, batch):
    """A loss that fails."""
    return outputs - batch["missing"]
