"""Steps of torch that never wait for the GPU, as a device without values shows: to read one is an error."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from shapes_only import Copies, ShapesOnly

from lightning_impl.backend import build
from lightning_impl.data.batches import EvalBatches, TrainBatches
from lightning_impl.norms import convert_sync_batchnorm
from pipeline.config.train import Precision
from pipeline.data.batch_plan import make_batch_plan
from pipeline.data.sources import load
from pipeline.run.experiment import Experiment
from pipeline.run.recording.recorder import Recorder

DATA = "dataset.limit=96 train.batch_size=16 dataset.augment=true dataset.crop_padding=1"
IMAGES = "dataset=digits dataset.limit=96 train.batch_size=16"
TOKENS = "dataset=text dataset.max_bytes=20_000 dataset.length=16 train.batch_size=16"
SMALL = "model.depth=1 model.width=16 model.heads=2"
MODELS = {
    "linear": IMAGES,
    "mlp": IMAGES,
    "cnn": f"{IMAGES} train.ema=0.9 train.clip_value=0.1",
    "simple_cnn": IMAGES,
    "resnet18": f"{IMAGES} model.width=4 train.clip_norm=1 train.randomness=shared",
    "resnet50": f"{IMAGES} model.width=4",
    "unet": f"{IMAGES} task=denoising task.levels=20 model.depth=1 model.width=16",
    "vit": f"{IMAGES} {SMALL} model.dropout=0.1 train.randomness=shared",
    "gpt": f"{TOKENS} {SMALL} model.dropout=0.1",
    "bert": f"{TOKENS} task=masked_language {SMALL}",
    "encoder_decoder": f"dataset=reverse train.batch_size=16 {SMALL}",
}
TASKS = {
    "contrastive": f"model=cnn {IMAGES} task=contrastive dataset.augment=true",
    "multilabel": "model=cnn dataset=scenes dataset.samples=64 train.batch_size=8 task=multilabel",
    "segmentation": "experiment=scenes_unet dataset.samples=64 train.batch_size=8",
    "regression": "experiment=line train.batch_size=2",
}
OPTIMIZERS = (
    "sgd", "adam", "adamw", "amsgrad", "rmsprop", "adagrad", "adadelta", "adamax", "nadam", "radam",
    "lion", "lamb", "muon",
)  # fmt: skip


@pytest.fixture
def take_steps(configure, monkeypatch):
    """A function that takes two steps and an evaluation of overrides on the device without values."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    autocast = torch.autocast  # knows no device without values

    def cast(kind, **options):
        return nullcontext() if kind == "meta" else autocast(kind, **options)

    monkeypatch.setattr(torch, "autocast", cast)

    def taken(overrides):
        config = configure(f"accelerator=cpu backend.fused=false {overrides}")
        plan = make_batch_plan(config, load(config.dataset, config.task))
        device = ShapesOnly("gpu", config.train.precision, "shapes")
        recorder = Recorder(config, plan.data)
        module = build(Experiment(config, plan, recorder, None), device).to("meta")
        module.configure_optimizers()
        strategy = SimpleNamespace(training_step=module.training_step)
        trainer = SimpleNamespace(global_step=0, strategy=strategy)
        module._trainer = trainer
        batches = TrainBatches(plan, device, config.train.accumulate, lambda: trainer.global_step)
        evaluation = EvalBatches(plan.data.val, plan, device, 16)
        with Copies() as copies:
            for batch, _ in zip(batches, range(2), strict=False):
                module.take_step(batch, trainer.global_step)
                values = module.step_values()
                trainer.global_step += 1
            with torch.no_grad():
                for batch in evaluation:
                    module.validation_step(batch, 0)
        assert trainer.global_step == 2
        assert values.device.type == "meta"
        return copies

    return taken


@pytest.mark.parametrize("free", [2**30, 0], ids=["resident", "memory-mapped"])
def test_no_step_of_torch_waits_for_a_copy_to_the_gpu(configure, monkeypatch, free):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    config = configure(DATA)
    plan = make_batch_plan(config, load(config.dataset, config.task))
    device = ShapesOnly("gpu", Precision.fp32, "shapes", free=free)
    with Copies() as at_start:
        training = TrainBatches(plan, device, 2, lambda: 0)
        evaluation = EvalBatches(plan.data.val, plan, device, 16)
    assert at_start.waiting
    assert not pinned  # whole splits would stay pinned
    with Copies() as copies:
        batches = [*training, *evaluation]
    assert all(field.device.type == "meta" for batch in batches for field in batch.values())
    assert copies.waiting == 0
    assert copies.others == len(pinned) > 0


@pytest.mark.parametrize(
    "model",
    [pytest.param(m, marks=pytest.mark.slow) if m == "resnet50" else m for m in MODELS],
)
def test_no_step_of_a_model_waits_for_the_gpu(take_steps, model):
    copies = take_steps(f"model={model} {MODELS[model]}")
    assert copies.waiting == 0


@pytest.mark.parametrize("task", TASKS)
def test_no_step_of_a_task_waits_for_the_gpu(take_steps, task):
    assert take_steps(TASKS[task]).waiting == 0


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_step_of_an_optimizer_waits_for_the_gpu(take_steps, optimizer):
    assert take_steps(f"model=mlp {IMAGES} optimizer={optimizer}").waiting == 0


def test_batch_norm_over_all_devices_does_not_wait_for_the_gpu(monkeypatch):
    sums = []
    monkeypatch.setattr(torch.distributed, "all_reduce", sums.append)
    monkeypatch.setattr(torch, "autocast", lambda kind, **options: nullcontext())
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(3, device="meta"))
    convert_sync_batchnorm(model)
    with Copies() as copies:
        model(torch.zeros(4, 3, 5, 5, device="meta", requires_grad=True)).sum().backward()
    assert len(sums) == 4  # of sums and of squares, forward and backward
    assert copies.waiting == copies.others == 0


def test_a_read_of_the_gpu_in_a_step_would_be_seen(take_steps, monkeypatch):
    step = torch.optim.SGD.step
    for reads in (lambda value: value.sum().item(), lambda value: bool(value.any()), torch.nonzero):

        def waits(self, *args, reads=reads):
            reads(self.param_groups[0]["params"][0])
            return step(self, *args)

        monkeypatch.setattr(torch.optim.SGD, "step", waits)
        with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
            take_steps(f"model=mlp {IMAGES} optimizer=sgd")
