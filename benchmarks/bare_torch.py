"""A training loop in plain torch, by hand: what lightning_impl is measured against."""

import os
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lightning_impl.models import build_model
from pipeline.config.models import ModelConfig

Batches = Callable[[int], tuple[torch.Tensor, torch.Tensor]]  # of a step: inputs, targets


def join(device: str) -> int:
    """The rank of this process, which meets the others."""
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not dist.is_initialized():
        dist.init_process_group("gloo" if device == "cpu" else "cpu:gloo,cuda:nccl")
    return dist.get_rank()


def cnn(shape: tuple[int, ...], classes: int, bf16: bool) -> nn.Module:
    """The `cnn` for images `[height, width, channels]`."""
    height, width, channels = shape
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * (height // 4) * (width // 4), 120), nn.ReLU(),
        nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, classes),
    )  # fmt: skip


def ours(config: ModelConfig, shape: tuple[int, ...], classes: int, bf16: bool) -> nn.Module:
    """A model of Tandem: what is compared is the loop."""
    return build_model(config, shape, classes)


def image_batches(
    images: np.ndarray, labels: np.ndarray, batch: int, device: str, devices: int = 1
) -> Batches:
    """Batches of uint8 images `[samples, height, width, channels]`, which stay on the device."""
    rank = join(device) if devices > 1 else 0
    pixels, targets = torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device)
    mean = torch.as_tensor(images.mean(axis=(0, 1, 2)), dtype=torch.float32, device=device)
    scale = torch.as_tensor(1 / images.std(axis=(0, 1, 2)), dtype=torch.float32, device=device)
    order, share = torch.randperm(len(images)).to(device), batch // devices

    def batches(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        start = step * batch % (len(images) - batch) + rank * share
        chosen = order[start : start + share]
        return ((pixels[chosen].float() - mean) * scale).permute(0, 3, 1, 2), targets[chosen]

    return batches


def token_batches(tokens: np.ndarray, length: int, batch: int, device: str) -> Batches:
    """Batches of random windows of token ids, which may be a memory-mapped file, as nanoGPT cuts them."""
    random = np.random.default_rng(0)

    def batches(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        starts = random.integers(len(tokens) - length, size=batch)
        windows = np.stack([tokens[start : start + length + 1] for start in starts])
        windows = torch.from_numpy(windows.astype(np.int64)).to(device)
        return windows[:, :-1], windows[:, 1:]

    return batches


def train(
    model: nn.Module,
    batches: Batches,
    batch: int,
    steps: tuple[int, int],
    device: str,
    devices: int = 1,
    bf16: bool = False,
) -> float:
    """Samples per second with AdamW, over the second of `steps` after the first, which warms up.

    `devices` share the batch, each with a process of this, as torchrun starts them.
    """
    model, (warmup, timed) = model.to(device), steps
    if devices > 1:
        model = DistributedDataParallel(model, gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step(index: int) -> torch.Tensor:
        inputs, targets = batches(index)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            logits = model(inputs)
        loss = F.cross_entropy(logits.float().flatten(end_dim=-2), targets.flatten())
        loss.backward()
        optimizer.step()
        return loss

    for index in range(warmup):
        loss = step(index)
    loss.item()
    start = time.perf_counter()
    for index in range(timed):
        loss = step(warmup + index)
    loss.item()
    return timed * batch / (time.perf_counter() - start)
