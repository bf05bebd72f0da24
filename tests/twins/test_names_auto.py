"""`model.names=auto`: the names of a user's pair are found once, and used as a file is."""

import json

import numpy as np
import pytest
import yaml
from asserts import assert_rows_close

import tandem
from pipeline.atomic_files import write_json
from pipeline.errors import UserError
from pipeline.loggers.metrics_file import read_metrics
from pipeline.run.start import pair_names
from pipeline.storage.signature import digest_of
from pipeline.verify import own_pair

OWN = (
    "model=own model.torch=own_models:TorchFused model.jax=own_models:FlaxSeparate model.names=auto "
    "dataset.limit=64 train.batch_size=16 train.precision=fp64 train.steps=4 logger=none accelerator=cpu "
    "train.log_every=1 train.randomness=shared"
)


@pytest.fixture
def alignments(tmp_path, monkeypatch):
    """The alignments that were made, with an empty cache."""
    made, align = [], own_pair.align_own_pair
    monkeypatch.setattr(pair_names, "CACHE", tmp_path / "cache")

    def counted(config, data):
        made.append(config.backend.name)
        return align(config, data)

    monkeypatch.setattr(own_pair, "align_own_pair", counted)
    return made


def test_names_are_found_once_for_both_backends_and_go_with_the_run(
    train, alignments, tmp_path, capsys, warm_processes
):
    assert train("torch", "torch", OWN) == 0
    assert train("jax", "jax", OWN) == 0
    assert alignments == ["torch"]
    said = capsys.readouterr().out
    assert said.count("2 parameters aligned by name, 6 by structure") == 2
    assert said.count("the two models are aligned, each in its own process") == 1
    ours, theirs = (
        read_metrics(tmp_path / backend / "metrics.jsonl") for backend in ("torch", "jax")
    )
    assert_rows_close(theirs, ours, 1e-10)
    rows = yaml.safe_load((tmp_path / "jax/names.yaml").read_text())["rows"]
    assert {"left": "stem.bias", "right": "patches.bias"} in rows
    identity = json.loads((tmp_path / "jax/run.json").read_text())
    assert len(identity["files"]["model.names"]) == 64
    assert identity["config"]["model"]["names"] == "auto"

    # Stopped on one backend, it goes on on the other, with the names of the run.
    assert train("half", "jax", f"{OWN} train.stop_after=2 resume=null") == 130
    assert train("rest", "torch", f"{OWN} resume={tmp_path / 'half'}") == 0
    assert_rows_close(read_metrics(tmp_path / "rest/metrics.jsonl"), ours, 1e-10)
    assert alignments == ["torch"]
    images = np.zeros((2, 8, 8, 1), np.uint8)
    run = tandem.load(tmp_path / "rest")
    np.testing.assert_allclose(
        run.model_on("jax").variables["params"]["patches"]["bias"],
        run.model.stem.bias.detach().numpy(),
        rtol=1e-12,
    )
    assert run.predict(images).shape == (2, 10)

    (tmp_path / "half/names.yaml").write_text("rows: []\n")
    with pytest.raises(
        UserError, match=r"or the file of model.names \(.*half/names.yaml\), was ed"
    ):
        tandem.load(tmp_path / "half")
    with pytest.raises(UserError, match="its config has another signature"):
        train("more", "torch", f"{OWN} resume={tmp_path / 'half'}")


def test_one_side_alone_needs_no_names(train, alignments, tmp_path, capsys):
    alone = OWN.replace("model.jax=own_models:FlaxSeparate ", "")
    assert train("alone", "torch", alone.replace("steps=4", "steps=1")) == 0
    assert alignments == []
    assert "names" not in capsys.readouterr().out.replace("names=auto", "")
    assert not (tmp_path / "alone/names.yaml").exists()


@pytest.mark.slow
def test_models_that_cannot_be_aligned_are_refused_with_what_is_left_over(
    train, alignments, tmp_path
):
    more = OWN.replace("TorchFused", "TorchPlain").replace("FlaxSeparate", "FlaxPlain")
    with pytest.raises(UserError) as refused:
        train("more", "jax", f"{more} model.options={{more:true}}")
    assert str(refused.value).startswith(
        "model.names=auto: the two models cannot be aligned without doubt: they part: weights: "
        "more.weight, more.bias (model.torch) / nothing (model.jax): they cannot have the same weights."
    )
    found = yaml.safe_load((tmp_path / "more/names.partial.yaml").read_text())["rows"]
    assert {"left": "b.bias", "right": "b.bias"} in found
    assert not (tmp_path / "more/names.yaml").exists()


def test_names_are_found_anew_when_the_code_has_changed(tmp_path):
    code, entry = tmp_path / "layers.py", tmp_path / "entry.json"
    code.write_text("WIDTH = 3")
    content = {"files": {str(code): digest_of(code)}, "summary": "…", "names": "rows: []"}
    write_json(entry, content)
    assert pair_names._cached(entry)["names"] == "rows: []"
    code.write_text("WIDTH = 4")
    assert pair_names._cached(entry) is None
