"""A training loop in plain torch, by hand: what lightning_impl is measured against."""

import os
import time

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def join(device: str) -> int:
    """The rank of this process, which meets the others."""
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not dist.is_initialized():
        dist.init_process_group("gloo" if device == "cpu" else "cpu:gloo,cuda:nccl")
    return dist.get_rank()


def train(
    images: np.ndarray,
    labels: np.ndarray,
    classes: int,
    batch: int,
    steps: int,
    warmup: int,
    device: str,
    devices: int = 1,
) -> float:
    """Samples per second of the `cnn` with AdamW, over `steps` steps after `warmup` steps.

    Args:
        images: uint8 `[samples, height, width, channels]`.
        labels: int64 `[samples]`.
        classes: number of classes.
        batch: samples in a step.
        steps: timed.
        warmup: not timed.
        device: `cpu` or `cuda`.
        devices: that share the batch, each with a process of this, as torchrun starts them.
    """
    rank = join(device) if devices > 1 else 0
    torch.manual_seed(0)
    height, width, channels = images.shape[1:]
    model = nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * (height // 4) * (width // 4), 120), nn.ReLU(),
        nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, classes),
    ).to(device)  # fmt: skip
    if devices > 1:
        model = DistributedDataParallel(model, gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    pixels, targets = torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device)
    mean = torch.as_tensor(images.mean(axis=(0, 1, 2)), dtype=torch.float32, device=device)
    scale = torch.as_tensor(1 / images.std(axis=(0, 1, 2)), dtype=torch.float32, device=device)
    order, share = torch.randperm(len(images)).to(device), batch // devices

    def step(index: int) -> torch.Tensor:
        start = index * batch % (len(images) - batch) + rank * share
        chosen = order[start : start + share]
        inputs = ((pixels[chosen].float() - mean) * scale).permute(0, 3, 1, 2)
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(inputs), targets[chosen])
        loss.backward()
        optimizer.step()
        return loss

    for index in range(warmup):
        loss = step(index)
    loss.item()
    start = time.perf_counter()
    for index in range(steps):
        loss = step(index)
    loss.item()
    return steps * batch / (time.perf_counter() - start)
