"""Arguments that are set without effect, and what a run says of them; paths that need no quotes."""

import re
from pathlib import Path

import pytest

from pipeline.backend_specs import BACKENDS
from pipeline.config.checks.no_effect import without_effect
from pipeline.config.checks.validate import quote_paths
from pipeline.run.banner import announce

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("backend=jax backend.channels_last=true", "=true has no effect on backend=jax."),
        ("backend=jax backend.fused=false", "backend.fused=false has no effect on backend=jax."),
        ("backend=jax backend.mode=max-autotune", "=max-autotune has no effect on backend=jax."),
        ("backend=torch backend.mode=max-autotune", "has no effect without backend.compile=true."),
        ("backend=torch backend.xla_flags.a=1", "backend.xla_flags={a:1} has no effect on "),
        ("backend=torch accelerator.steps_per_call=4", "=4 has no effect on backend=torch."),
        (
            "backend=torch accelerator=fsdp",
            "accelerator.strategy=fsdp has no effect on one device.",
        ),
        (
            "backend=torch accelerator.sync_batchnorm=false",
            "accelerator.sync_batchnorm=false has no effect on one device.",
        ),
        (
            "backend=jax accelerator.strategy=ddp schedule.warmup=0 schedule.start=0.5",
            "schedule.start=0.5 has no effect without schedule.warmup.",
        ),
        ("backend=jax accelerator.matmul_precision=tf32", "=tf32 has no effect on a CPU"),
    ],
)
def test_a_key_without_effect_is_named_at_the_start_of_a_run(
    configure, capsys, overrides, sentence
):
    config = configure(f"model=mlp {overrides}")
    device = f"{config.backend.name} on cpu, 2 threads"
    [found] = without_effect(config, device)
    assert sentence in found
    announce(config, "outputs/first", device)
    assert found in capsys.readouterr().out


def test_nothing_is_said_of_keys_that_a_run_reads(configure):
    read = {
        "jax": "accelerator=fsdp schedule.start=0.5 accelerator.steps_per_call=4 backend.xla_flags.a=1",
        "torch": "accelerator.sync_batchnorm=false backend.channels_last=true backend.fused=false",
        "torch_compiled": "backend.mode=max-autotune backend.inductor.freezing=true",
    }
    for backend, overrides in read.items():
        assert (
            without_effect(
                configure(f"backend={backend} {overrides}"), "torch on 2 × cpu, 1 thread"
            )
            == []
        )
        assert without_effect(configure(f"backend={backend}"), "torch on 2 × cpu, 1 thread") == []
    assert (
        without_effect(configure("accelerator.matmul_precision=tf32"), "jax on NVIDIA H200") == []
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_does_not_read_the_keys_that_it_is_said_to_ignore(backend):
    spec = BACKENDS[backend]
    source = "".join(file.read_text() for file in (ROOT / spec.package).rglob("*.py"))
    assert spec.ignores
    assert not [key for key in spec.ignores if re.search(rf"config\.{re.escape(key)}\b", source)]
    others = {key for name, other in BACKENDS.items() if name != backend for key in other.ignores}
    assert all(re.search(rf"\.{key.split('.')[1]}\b", source) for key in others)


def test_the_folder_of_a_job_of_a_sweep_needs_no_quotes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = Path("outputs/pair/0_seed=0_backend=jax")
    job.mkdir(parents=True)
    given = ["-m", f"resume={job}", f"checkpoint={job}", "resume=outputs/a=b", f"name={job}"]
    quoted = [f"resume='{job}'", f"checkpoint='{job}'"]
    assert quote_paths(given) == ["-m", *quoted, *given[3:]]
    assert quote_paths(quoted) == quoted
