"""Every option of every config group runs."""

from importlib.util import find_spec

import numpy as np
import own_data
import pytest
from image_folders import write_images
from local_shapes import prepare_shapes
from safetensors.numpy import save_file

from pipeline.config.checks.keys import CONF
from pipeline.data.sources import images
from pipeline.storage.run_folder import RunFolder

CHOICES = sorted(
    f"{file.parent.relative_to(CONF)}={file.stem}"
    for file in CONF.glob(
        "*/*.yaml"
    )  # Hydra's own, of sweepers and launchers, have tests of sweeps
)
BACKENDS = ("torch", "jax")

# Two steps of the smallest run there is; what an option needs beside it stands below.
SMALL = (
    "logger=none",
    "accelerator=cpu",
    "train.steps=2",
    "dataset.limit=64",
    "train.batch_size=16",
)
AS_CIFAR = ("dataset=synthetic", "dataset.samples=256")
SMALL_GPT = ("model=gpt", "model.depth=1", "model.width=8")
TEXT = ("dataset=text", "dataset.max_bytes=50_000")
NEEDS = {
    "accelerator=slurm": ("accelerator.kind=cpu",),
    "dataset=line": ("model=linear", "dataset.limit=null", "train.batch_size=5"),
    "experiment=line": ("dataset.limit=null", "train.batch_size=5"),
    "experiment=cifar10_cnn": AS_CIFAR,
    "experiment=cifar10_resnet18": (*AS_CIFAR, "model.width=8"),
    "dataset=folder": ("dataset.root={data}/images", "dataset.size=8", "dataset.limit=null"),
    "dataset=arrays": ("dataset.path={data}/arrays.npz",),
    "dataset=own": ("dataset.load=tests.own_data:images",),
    "dataset=table": ("dataset.path={data}/table.csv", "dataset.targets=[y]", "model=mlp"),
    "dataset=tokens": ("dataset.path={data}/ids.bin", "dataset.length=16", *SMALL_GPT),
    "model=own": ("model.torch=tests.own_models:TorchNet", "model.jax=tests.own_models:FlaxNet"),
    "optimizer=own": (
        "optimizer.torch=torch.optim:ASGD",
        "optimizer.jax=optax.contrib:ademamix",
    ),
    "schedule=own": ("schedule.function=tests.own_training:sawtooth",),
    "model=resnet18": ("model.width=8",),
    "model=resnet50": ("model.width=4",),
    "model=encoder_decoder": ("dataset=reverse", "model.width=16", "model.depth=1"),
    "model=unet": ("task=denoising", "task.levels=20", "model.width=8"),
    "model=bert": ("task=masked_language", *TEXT, "model.width=16"),
    "dataset=reverse": ("model=encoder_decoder", "model.width=16", "model.depth=1"),
    "dataset=scenes": ("model=unet", "model.width=8"),
    "task=regression": ("dataset=line", "model=linear", "dataset.limit=null", "train.batch_size=5"),
    "task=language": (*SMALL_GPT, *TEXT),
    "task=multilabel": ("dataset=scenes",),
    "task=segmentation": ("dataset=scenes", "model=unet", "model.width=8"),
    "task=masked_language": ("model=bert", *TEXT, "model.width=16"),
    "task=denoising": ("model=unet", "task.levels=20", "model.width=8"),
    "task=contrastive": ("dataset.augment=true", "dataset.crop_padding=1"),
    "task=seq2seq": (
        "dataset=reverse",
        "model=encoder_decoder",
        "model.width=16",
        "model.depth=1",
    ),
    "task=own": (
        "dataset=line",
        "model=linear",
        "dataset.limit=null",
        "train.batch_size=5",
        "task.torch=tests.own_losses:torch_huber",
        "task.jax=tests.own_losses:jax_huber",
        "task.targets=[target]",
        "task.metrics=[mae]",
    ),
    "experiment=scenes_unet": ("model.width=8",),
    "experiment=text_bert": ("dataset.max_bytes=50_000", "model.width=16"),
    "experiment=digits_denoising": ("model.width=8", "task.levels=20"),
    "experiment=digits_probe": ("model.weights={data}/convolutions.safetensors",),
    "experiment=reverse": ("model.width=16",),
    "dataset=huggingface": ("dataset.path={data}/saved", "model=mlp"),
    "dataset=torchvision": (
        "dataset.name=FakeData",
        "dataset.options={{size:80,image_size:[3,8,8]}}",
    ),
    "dataset=tfds": (
        "dataset.name=local_shapes",
        "dataset.columns=[picture]",
        "dataset.size=8",
        "dataset.limit=null",
    ),
    "dataset=text": (*SMALL_GPT, *TEXT[1:]),
    "experiment=text_gpt": ("dataset.max_bytes=50_000",),
    **{f"model=vit_{size}": (*AS_CIFAR, "model.depth=1") for size in ("tiny", "small", "base")},
    **{
        f"model={name}": ("dataset=text", "dataset.max_bytes=50_000", *smaller)
        for name, smaller in {
            "gpt": (),
            "gpt2": ("model.depth=1",),
            "gpt2_medium": ("model.depth=1", "model.width=64"),
            "gpt2_large": ("model.depth=1", "model.width=80"),
            "gpt2_xl": ("model.depth=1", "model.width=100"),
        }.items()
    },
}
# Sets that have to be fetched are read in tests/pipeline/data/sources; a GPU is not everywhere.
NOT_HERE = {f"dataset={name}" for name in images.CLASSES}
NOT_HERE |= {"accelerator=gpu", "accelerator=multi_gpu"}
NOT_HERE |= set() if find_spec("datasets") else {"dataset=huggingface"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with image files, arrays, a table, and token ids."""
    folder = tmp_path_factory.mktemp("data")
    write_images(folder / "images", {"a": 20, "b": 20})
    np.savez(folder / "arrays.npz", **own_data.images())
    convolutions = {"conv1": (32, 1, 3, 3), "conv2": (64, 32, 3, 3)}
    weights = {f"{name}.weight": np.ones(shape) for name, shape in convolutions.items()}
    weights |= {f"{name}.bias": np.ones(shape[0]) for name, shape in convolutions.items()}
    save_file(weights, folder / "convolutions.safetensors")
    (np.arange(3000, dtype="<u2") % 50).tofile(folder / "ids.bin")
    rows = [f"{row % 7},{'ab'[row % 2]},{row % 5}.5" for row in range(120)]
    (folder / "table.csv").write_text("\n".join(["x,kind,y", *rows]))
    prepare_shapes(folder)
    if find_spec("datasets") is not None:
        from datasets import Dataset

        rows = {"x": [row / 7 for row in range(120)], "label": [row % 2 for row in range(120)]}
        Dataset.from_dict(rows).save_to_disk(folder / "saved")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("choice", [choice for choice in CHOICES if choice not in NOT_HERE])
def test_every_option_runs(train, data, tmp_path, monkeypatch, choice):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TANDEM_DATA", str(data))
    group, _, option = choice.partition("=")
    turn = BACKENDS[CHOICES.index(choice) % 2]  # both backends are compared elsewhere
    backend = option if group == "backend" else turn
    overrides = [override for override in SMALL if not override.startswith(f"{group}=")]
    overrides += [choice] if group != "backend" else []
    needs = [need.format(data=data) for need in NEEDS.get(choice, ())]
    if group not in ("model", "experiment") and not any(
        need.startswith("model=") for need in needs
    ):
        needs.append("model=mlp")  # which compiles in half the time
    assert train("run", backend, " ".join([*overrides, *needs, "seed=1"])) == 0
    result = RunFolder(tmp_path / "run").result
    name = backend.removesuffix("_compiled")
    assert (result.status, result.steps, result.backend) == ("completed", 2, name)
