"""Signature of a run: which configs and files are the same experiment, also across versions."""

import os
from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.atomic_files import read_json, write_json
from pipeline.config.experiment import SCHEMAS, BackendConfig, Config, plain
from pipeline.config.models import GPTConfig
from pipeline.config.stored_config import completed, defaults_of, schema_of
from pipeline.run.resume import read_identity, saved_config
from pipeline.run.unfinished_runs import find_resumable_run
from pipeline.storage.data_fingerprint import BLOCK, BLOCKS, blocks_of
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.signature import (
    digests_of,
    flat,
    is_irrelevant,
    is_same_experiment,
    signature,
    signature_of,
)
from pipeline.sweep.job_status import JobState, job_folder_for, job_status

EXPERIMENTS = [
    "backend=jax model=cnn dataset=cifar10 optimizer=sgd schedule=step",
    "backend=torch model=mlp dataset=digits optimizer=adamw schedule=warmup_cosine logger=[csv]",
]
# Frozen here on purpose: a key that joins these must be one that cannot change the result.
IRRELEVANT = {
    "name", "mode", "resume", "checkpoint", "tags", "sweep.retry_failed", "sweep.dry_run", "sweep.vectorize",
    "dataset.root", "dataset.download",
    "train.stop_after", "train.profile", "train.log_every", "train.eval_batch_size",
}  # fmt: skip


def changed(config, key):
    """Copy of a config with another value at a dotted key."""
    config = deepcopy(config)
    *path, last = key.split(".")
    node = config
    for name in path:
        node = getattr(node, name)
    setattr(node, last, "another value")
    return config


@pytest.mark.parametrize("overrides", EXPERIMENTS)
def test_the_signature_depends_on_exactly_the_keys_that_can_change_the_result(configure, overrides):
    config = configure(overrides)
    keys = set(flat(plain(config)))
    assert keys >= IRRELEVANT
    assert len(keys) > 40
    kept = {key for key in keys if signature(changed(config, key)) == signature(config)}
    assert kept == IRRELEVANT | {key for key in keys if key.startswith("logger.")}


def test_the_signature_does_not_depend_on_how_the_config_is_spelled(configure):
    one = configure("optimizer=sgd optimizer.lr=0.1 train.epochs=20 seed=0")
    other = configure("train.epochs=20 optimizer=sgd")
    assert signature(one) == signature(other)
    assert len(signature(one)) == 16


def test_the_content_of_a_table_of_labels_is_part_of_the_signature(configure, tmp_path):
    table = tmp_path / "labels.csv"
    config = configure(f"dataset=folder dataset.root={tmp_path} dataset.labels={table}")
    signatures = {signature(config)}
    for label in ("a", "b"):
        table.write_text(f"file,label\n1.png,{label}\n")
        signatures.add(signature(config))
    assert len(signatures) == 3


def without(config, keys):
    """Copy of a config in plain containers without some dotted keys."""
    return {
        group: {key: value for key, value in content.items() if f"{group}.{key}" not in keys}
        if isinstance(content, dict)
        else content
        for group, content in config.items()
        if group not in keys
    }


@pytest.fixture(scope="module")
def composed(configure):
    """Configs in plain containers, each with its keys at their defaults."""
    overrides = [*EXPERIMENTS, "model=gpt dataset=text", "model=bert dataset=tokens task=own"]
    set_here = [f"{one} train.ema=0.9 seed=3 optimizer.lr=0.5" for one in overrides]
    made = []
    for config in [plain(configure(text)) for text in (*overrides, *set_here)]:
        groups = {group: value for group, value in config.items() if isinstance(value, dict)}
        default = flat({**defaults_of(Config), "backend": defaults_of(BackendConfig)})
        for group in SCHEMAS:
            default |= flat({group: defaults_of(schema_of(group, config[group]))})
        keys = [key for key in flat(groups) if not key.endswith(".name") and key.count(".") == 1]
        made.append((config, [key for key in keys if flat(config)[key] == default[key]]))
    return made


@settings(max_examples=150)
@given(data=st.data())
def test_a_run_without_keys_at_their_default_is_the_same_and_one_with_another_value_is_not(
    composed, data
):
    config, at_default = data.draw(st.sampled_from(composed))
    added = data.draw(st.sets(st.sampled_from(at_default), max_size=6))
    older = without(config, added)
    stored = signature_of(older)
    assert completed(config) == config
    assert is_same_experiment(stored, older, {}, signature_of(config))
    key = data.draw(st.sampled_from([key for key in flat(config) if not is_irrelevant(key)]))
    other = deepcopy(config)
    *path, last = key.split(".")
    (other[path[0]] if path else other)[last] = ["another value"]
    assert not is_same_experiment(stored, older, {}, signature_of(other))
    assert not is_same_experiment(signature_of(older, meaning=1), older, {}, signature_of(config))


def write_older_run(folder, config, added=(), files_added=()):
    """Write a run with a checkpoint as a version did before it had some keys and digests of files."""
    run = RunFolder(folder)
    run.identify(config)
    identity = read_json(folder / "run.json")
    older = without(identity["config"], added)
    files = {key: one for key, one in identity["files"].items() if key not in files_added}
    identity |= {"config": older, "files": files, "signature": signature_of(older, digests=files)}
    write_json(folder / "run.json", identity)
    (folder / "checkpoints" / "000060").mkdir(parents=True)
    return run


@pytest.mark.parametrize(
    ("overrides", "added"),
    [
        ("model=gpt dataset=text", {"model.activation", "dataset.augment", "callbacks", "task"}),
        ("model=bert dataset=text", {"model.activation", "train.monitor"}),
        ("model=own model.torch=my:A", {"model.output", "model.weights", "schedule.function"}),
        ("dataset=folder dataset.root=photos", {"dataset.masks", "dataset.separator"}),
        ("dataset=fashion_mnist", {"dataset.folds", "dataset.fold"}),
        ("dataset=mnist", {"task", "dataset.folds", "backend.compile", "backend.mode"}),
        ("dataset=torchvision dataset.name=KMNIST", {"dataset.padding", "dataset.size"}),
    ],
)
def test_a_run_of_an_earlier_version_is_found_and_resumed(configure, tmp_path, overrides, added):
    config = configure(f"backend=jax {overrides}")
    run = write_older_run(tmp_path / "run", config, added)
    assert run.identity.signature != signature(config)
    assert find_resumable_run(tmp_path, signature(config)) == run.path
    assert plain(saved_config(run.path, "resume")) == plain(config)
    assert job_folder_for(tmp_path, "0_again", config) == run.path
    found = job_status(config, run.path)
    assert (found.state, found.number) == (JobState.resumed, 60)
    for other in (replace(config, seed=1), configure(f"backend=jax {overrides} optimizer.lr=7")):
        assert find_resumable_run(tmp_path, signature(other)) is None
        assert job_status(other, run.path).state is JobState.new


def test_a_default_that_changed_since_makes_another_experiment(
    request, configure, tmp_path, monkeypatch
):
    config = configure("model=gpt dataset=text")
    run = write_older_run(tmp_path / "run", config, {"model.bias"})
    monkeypatch.setattr(GPTConfig.__dataclass_fields__["width"], "default", 64)
    defaults_of.cache_clear()
    request.addfinalizer(defaults_of.cache_clear)
    assert find_resumable_run(tmp_path, signature(config)) == run.path
    of_today = replace(config, model=replace(config.model, width=64))
    assert find_resumable_run(tmp_path, signature(of_today)) is None


DATA = {
    "table": "data.csv",
    "arrays": "data.npz",
    "tokens": "data.bin",
    "huggingface": "data/state/data-00000-of-00001.arrow",
    "text": "data/a.txt",
}


@pytest.mark.parametrize("name", DATA)
def test_other_data_in_the_same_place_are_another_run_and_are_told_when_one_resumes(
    configure, tmp_path, capsys, name
):
    file = tmp_path / DATA[name]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"1,2\n3,4\n")
    path = tmp_path / DATA[name].partition("/")[0]
    config = configure(f"backend=jax dataset={name} dataset.path={path}")
    older = write_older_run(tmp_path / "older", config, files_added=["dataset.path"])
    run = write_older_run(tmp_path / "run", config)
    for one in (older, run):
        assert job_status(config, one.path).state is JobState.resumed
        assert read_identity(one.path, "resume").backend == "jax"
    (path.parent / "notes.md").write_text("beside")
    if path.is_dir():
        (path / "cache-1.arrow").write_text("written by `datasets`")
    assert job_status(config, run.path).state is JobState.resumed
    assert capsys.readouterr().out == ""
    file.write_bytes(b"1,2\n3,5\n")
    assert job_status(config, older.path).state is JobState.resumed  # it has not stored it
    assert job_status(config, run.path).state is JobState.new
    assert find_resumable_run(tmp_path, signature(config)) == older.path
    read_identity(run.path, "resume")
    told = f"the data in dataset.path={path} have changed since this run was made"
    assert told.replace(" ", "") in "".join(capsys.readouterr().out.split())


def test_a_fingerprint_reads_two_megabytes_of_a_large_file_and_sees_its_size_and_ends(
    configure, tmp_path, monkeypatch
):
    file = tmp_path / "large.bin"
    file.touch()
    os.truncate(file, 100 << 30)  # a hole
    config = plain(configure(f"dataset=tokens dataset.path={file}"))
    assert sum(map(len, blocks_of(file))) == BLOCK * BLOCKS == 2 << 20

    def found():
        return digests_of(config)["dataset.path"]

    seen = {found()}
    os.truncate(file, (100 << 30) + 2)
    seen.add(found())
    for place in (0, (100 << 30) + 1):
        with file.open("r+b") as stream:
            stream.seek(place)
            stream.write(b"1")
        seen.add(found())
    assert len(seen) == 4
    assert found() in seen
    file.unlink()
    assert found() is None


def test_an_edited_tokenizer_makes_another_run(configure, tmp_path):
    file = tmp_path / "tokenizer.json"
    config = configure(f"dataset=tokens dataset.path=hub dataset.tokenizer={file}")
    seen = {signature(config)}
    for content in ("{}", "[]"):
        file.write_text(content)
        seen.add(signature(config))
    assert len(seen) == 3
