"""Keys that are set without effect: which ones, and what a run says of them."""

import re
from pathlib import Path

import pytest

from pipeline.backend_specs import BACKENDS
from pipeline.config.checks.no_effect import without_effect
from pipeline.run.banner import announce

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("backend=jax backend.channels_last=true", "=true has no effect on backend=jax."),
        ("backend=jax backend.fused=false", "backend.fused=false has no effect on backend=jax."),
        ("backend=jax backend.mode=max-autotune", "=max-autotune has no effect on backend=jax."),
        ("backend=torch backend.mode=max-autotune", "has no effect without backend.compile=true."),
        ("backend=torch backend.xla_flags.a=1", "backend.xla_flags={'a': 1} has no effect on "),
        ("backend=torch accelerator.steps_per_call=4", "=4 has no effect on backend=torch."),
        ("backend=jax accelerator.matmul_precision=tf32", "=tf32 has no effect on a CPU"),
    ],
)
def test_a_key_without_effect_is_named_at_the_start_of_a_run(
    configure, capsys, overrides, sentence
):
    config = configure(f"model=mlp {overrides}")
    [found] = without_effect(config, on_cpu=True)
    assert sentence in found
    announce(config, "outputs/first", f"{config.backend.name} on cpu, 2 threads")
    assert found in capsys.readouterr().out


def test_nothing_is_said_of_keys_that_a_run_reads(configure):
    read = {
        "jax": "accelerator.steps_per_call=4 backend.xla_flags.a=1",
        "torch": "backend.channels_last=true backend.fused=false",
        "torch_compiled": "backend.mode=max-autotune backend.inductor.freezing=true",
    }
    for backend, overrides in read.items():
        assert without_effect(configure(f"backend={backend} {overrides}"), on_cpu=True) == []
        assert without_effect(configure(f"backend={backend}"), on_cpu=True) == []
    assert without_effect(configure("accelerator.matmul_precision=tf32"), on_cpu=False) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_does_not_read_the_keys_that_it_is_said_to_ignore(backend):
    spec = BACKENDS[backend]
    source = "".join(file.read_text() for file in (ROOT / spec.package).rglob("*.py"))
    assert spec.ignores
    assert not [key for key in spec.ignores if re.search(rf"config\.{re.escape(key)}\b", source)]
    others = {key for name, other in BACKENDS.items() if name != backend for key in other.ignores}
    assert all(re.search(rf"\.{key.split('.')[1]}\b", source) for key in others)
