"""The report is one self-contained HTML file, and is written even for damaged runs."""

import json
import re
from base64 import b64decode, b64encode
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from hashlib import sha256
from io import BytesIO
from math import inf, nan
from multiprocessing import get_context
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from made_runs import change_result, write_json, write_predictions, write_run, write_sweep
from PIL import Image

from pipeline.compare.colours import COLOURS, colours
from pipeline.compare.comparison import comparison
from pipeline.compare.curves import Curve
from pipeline.compare.headline import cards, sentences
from pipeline.compare.report.confusion import mistakes, mistakes_of, png
from pipeline.compare.report.page import page, plotly, write_page
from pipeline.compare.report.page_data import curve_of, page_data
from pipeline.storage.predictions import read_predictions


def data_of(text: str) -> dict:
    """Data embedded in a page as JSON."""
    [found] = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL
    )
    return json.loads(found)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Folder of a finished sweep over two backends, two seeds and two learning rates."""
    return write_sweep(tmp_path_factory.mktemp("made") / "sweep")


@pytest.fixture(scope="module")
def made(sweep):
    """Comparison of that sweep."""
    return comparison([sweep], price=2.0)


@pytest.fixture
def copy(sweep, tmp_path):
    """A copy of the sweep to damage: a function that returns the folder of a job by its number."""
    folder = copytree(sweep, tmp_path / "sweep")

    def job(number: int) -> Path:
        return next(folder.glob(f"{number}_*"))

    return job


def test_page_makes_no_requests(made):
    text = page(made)
    own = text.replace(plotly(), "")
    assert re.findall(r'<[^>]*\b(?:src|href)\s*=\s*"([^"]*)"', own) == ["data:,", "#runs"]
    assert re.findall(r"@import|url\(", own) == []
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', own)
    assert "default-src 'none'" in policy
    [scripts] = re.findall(r"script-src ([^;]*)", policy)
    inline = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digests = [b64encode(sha256(script.encode()).digest()).decode() for script in inline]
    assert scripts.split() == [f"'sha256-{digest}'" for digest in digests]
    assert plotly() in text


def test_page_is_replaced_atomically_and_leaves_no_other_file(made, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    write_page(made, path, refresh=5)
    assert data_of(path.read_text())["refresh"] == 5
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(OSError, match="no-folder"):
        write_page(made, tmp_path / "no-folder" / "report.html")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_page(made, tmp_path / "folder")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "report.html"]


def test_names_and_errors_cannot_close_the_script_element(copy):
    evil = "</script><script>alert(1)</script><!-- <script> --> \u2028"
    change_result(copy(0), status="failed", error=evil)
    text = page(comparison([copy(0).parent]))
    assert evil not in text
    assert text.count("</script>") == page(comparison([copy(1)])).count("</script>")
    assert data_of(text)["notes"] == [{"run": 0, "text": evil, "error": True}]


def test_curves_have_six_digits_and_only_valid_json_values():
    value = np.array([1 / 3, nan, inf, -inf, 1e-30, 12345678.0])
    curve = Curve(np.arange(6), np.full(6, nan), value)
    told = curve_of(curve)
    assert told == {"s": [0, 1, 2, 3, 4, 5], "v": [0.333333, None, None, None, 1e-30, 12345700]}
    assert curve_of(Curve(np.arange(6), value, value), digits=3)["t"][0] == 0.333333
    json.dumps(told, allow_nan=False)


def test_page_data_has_pairs_times_costs_and_curves(made):
    told = page_data(made)
    assert [run["partner"] for run in told["runs"]] == [4, 5, 6, 7, 0, 1, 2, 3]
    assert told["metrics"]["shown"] == ["val/accuracy", "train/loss"]
    assert not [key for key in told["metrics"]["keys"] if key.startswith("test/")]
    columns = {column["title"]: column for column in told["columns"]}
    seconds = columns["seconds"]["values"][0]
    assert seconds == 2.2
    assert columns["cost"]["values"][0] == pytest.approx(seconds / 3600 * 2.0)
    assert columns["samples/s"]["texts"][0] == "16,000"
    curve = told["runs"][0]["curves"]["train/loss"]
    assert len(curve["s"]) == len(curve["v"]) == len(curve["t"]) == 100
    assert curve["t"][-1] == 0.2
    gap = told["pairs"][0]["gaps"]["train/loss"]
    assert 1e-7 < max(gap["v"]) < 1e-5
    assert float(gap["worst"]) == max(gap["v"])
    assert {axis["title"] for axis in told["axes"]} >= {
        "backend",
        "optimizer.lr",
        "seed",
        "seconds",
    }
    assert told["settings"]["config"]["optimizer.lr"][:2] == ["0.01", "0.003"]


def test_headline_shows_outcomes_best_run_speed_and_pairs(copy):
    change_result(copy(7), status="failed", error="no luck")
    told = sentences(comparison([copy(0).parent]))
    assert told[0] == "8 runs: 7 completed, 1 failed."
    assert re.fullmatch(r"The best is val/accuracy 0\.\d+, of backend=\w+ .* seed=\d\.", told[1])
    assert told[2] == "4 pairs: the same weights at step 0 and the same batches."
    [ended, best, speed, pairs] = cards(comparison([copy(0).parent]))
    assert (ended["value"], ended["label"]) == ("7 of 8", "runs completed, 1 failed")
    assert (ended["good"], pairs["good"]) == (False, True)
    assert pairs["value"] == "4 pairs"
    assert pairs["label"] == "the same weights at step 0 and the same batches"
    assert speed["value"] == "0.49–0.5×"
    assert best["label"].startswith("best val/accuracy: backend=")


def test_pairs_of_different_experiments_are_marked_as_bad(copy):
    change_result(copy(0), init_digest="other")
    made = comparison([copy(0).parent])
    assert "1 pair: not the same experiment." in sentences(made)
    card = cards(made)[3]
    assert card["good"] is False
    assert card["label"].endswith(", 1 × not the same experiment")
    assert [pair["same"] for pair in page_data(made)["pairs"]] == [False, None, None, None]


def test_colours_follow_pairs_then_settings_then_ranks(made, tmp_path):
    by_pair = colours(made)
    assert (by_pair.of, len(by_pair.labels)) == ([0, 1, 2, 3] * 2, 4)
    for number in range(3 * 2 * COLOURS):
        backend, seed, rate = number % 2, number // 2 % 3, number // 6
        name = ("torch", "jax")[backend]
        rates = {"optimizer__lr": (rate + 1) / 100}
        write_run(tmp_path / str(number), name, seed, steps=20, **rates)
    by_setting = colours(comparison([tmp_path]))
    assert (len(by_setting.labels), by_setting.ranked) == (COLOURS, False)
    assert by_setting.of[:7] == [0, 0, 0, 0, 0, 0, 1]
    write_run(tmp_path / "48", optimizer__lr=0.5)
    change_result(tmp_path / "0", best={"metric": "val/accuracy", "value": 0.9999})
    by_rank = colours(comparison([tmp_path]))
    assert by_rank.ranked
    assert by_rank.of[:2] == [COLOURS - 1] * 2  # a pair by the better of the two
    assert set(by_rank.of) == set(range(COLOURS))
    told = page_data(comparison([tmp_path]))["runs"]
    assert all(run["colour"] == told[run["partner"]]["colour"] for run in told if run["partner"])


def test_damage_is_reported_and_the_page_is_still_written(copy):
    with (copy(0) / "metrics.jsonl").open("a") as file:
        file.write('{"step": 101, "train/lo')
    (copy(1) / "result.json").unlink()
    (copy(2) / "result.json").write_text("not json {")
    (copy(3) / "metrics.jsonl").unlink()
    (copy(4) / "metrics.jsonl").write_text(
        '{"step": 1, "train/loss": NaN}\n{"step": 2, "train/loss": Infinity}\n'
    )
    (copy(5) / "result.json").write_text("[1, 2]")
    change_result(copy(6), versions={"jax": "1.0"}, best=None, test=None, seconds=None, config=None)
    change_result(
        copy(7), throughput=None, hardware={"cores": 64}, best={"metric": "val/loss", "value": nan}
    )
    (copy(0) / "predictions.npz").write_bytes(b"PK no zip")
    told = data_of(page(comparison([copy(0).parent])))
    texts = "\n".join(note["text"] for note in told["notes"])
    for what in (
        "line 112 is torn", "no result.json: the run ended without writing one", 
        "result.json cannot be read",
        "metrics.jsonl cannot be read", "result.json is no JSON object, but list", 
        "different versions of jax",
        "different cores",
    ):  # fmt: skip
        assert what in texts
    assert told["runs"][4]["curves"]["train/loss"] == {"s": [1, 2], "v": [None, None]}


def test_runs_with_equal_names_are_distinguished(tmp_path):
    folders = [write_run(tmp_path / folder / "0_run", steps=20) for folder in ("one", "two")]
    names = [run["name"] for run in page_data(comparison(folders))["runs"]]
    assert names[0] != names[1]
    assert names[0].endswith(f"({folders[0]})")


def test_a_single_run_that_has_only_started_has_a_page(tmp_path):
    write_json(tmp_path / "run.json", {"signature": "s"})
    told = data_of(page(comparison([tmp_path])))
    assert told["runs"][0]["curves"] == {}
    assert told["metrics"] == {"keys": [], "shown": []}
    assert told["title"] == tmp_path.name


def test_mistakes_are_counted_and_compared_with_the_paired_run(made, sweep):
    told = mistakes(made)
    first = told["runs"][0]
    known = np.load(made.records[0].folder / "predictions.npz")
    assert sum(cell[2] for cell in first["cells"]) == first["samples"] == 300
    assert sum(n for true, said, n in first["cells"] if true != said) == first["wrong"]
    assert first["wrong"] == (known["target"] != known["predicted"]).sum()
    assert first["worst"][0]["loss"] == round(known["loss"].max(), 3)
    assert [first["worst"][0][key] for key in ("target", "predicted")] == [
        known[key][known["worst"][0]] for key in ("target", "predicted")
    ]
    images = [one["image"] for one in first["worst"]]
    assert images == [png(image) for image in known["worst_images"]]
    other = np.load(made.records[4].folder / "predictions.npz")
    apart = (known["predicted"] != other["predicted"]).sum()
    assert told["pairs"][0] == {"runs": (0, 4), "samples": apart, "count": 300}


def test_classes_are_shown_by_name_or_else_by_number(tmp_path):
    write_predictions(tmp_path, classes=3)
    before = mistakes_of(read_predictions(tmp_path))
    write_predictions(tmp_path, classes=3, names=["cat", "dog", "bird", "frog"])
    now = mistakes_of(read_predictions(tmp_path))
    assert (before["classes"], now["classes"]) == (["0", "1", "2"], ["cat", "dog", "bird"])
    assert json.loads(json.dumps(now | {"classes": before["classes"]})) == before


def test_mistakes_of_many_runs_are_cut_to_a_size_limit(made, monkeypatch):
    whole = mistakes(made)
    monkeypatch.setattr("pipeline.compare.report.confusion.ROOM", 16_000)
    some = mistakes(made)
    assert 2 <= len(some["runs"]) < len(whole["runs"])
    assert some["left_out"] == 8 - len(some["runs"])
    assert {0, 4} <= set(some["runs"])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_holds_the_pixels(channels):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels)).astype(np.uint8)
    file = BytesIO(b64decode(png(image).removeprefix("data:image/png;base64,")))
    expected = image if channels == 3 else image[:, :, 0]
    assert np.array_equal(np.asarray(Image.open(file, formats=["PNG"])), expected)


@pytest.mark.slow
def test_the_page_of_two_hundred_long_runs_is_smaller_than_15_megabytes(tmp_path):
    jobs = [(backend, seed, 10 ** -(1 + rate / 10))
            for backend in ("torch", "jax") for seed in range(5) for rate in range(20)]  # fmt: skip
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        list(pool.map(partial(write_long, tmp_path), range(len(jobs)), jobs))
    write_page(comparison([tmp_path]), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 15e6


def write_long(folder: Path, number: int, job: tuple[str, int, float]) -> None:
    """Write one of the two hundred runs."""
    backend, seed, rate = job
    write_run(folder / str(number), backend, seed, 10_000, 200, 1e-6, optimizer__lr=rate)


def test_the_last_pictures_of_runs_stand_side_by_side_and_equal_ones_are_said_to_be(copy):
    runs = [copy(number) for number in (0, 1)]
    for run in runs:
        (run / "media" / "own").mkdir(parents=True)
        for name in ("samples-000008.png", "samples-000012.png", "own/filters-000012.png"):
            shade = 0 if run is runs[1] and "own" in name else 200
            Image.new("L", (4, 4), shade).save(run / "media" / name)
        (run / "media" / "norms-000012.csv").write_text("name,norm\n")
    filters, samples = data_of(page(comparison([runs[0].parent])))["pictures"]
    assert [(one["key"], one["same"]) for one in (filters, samples)] == [
        ("own/filters", False),
        ("samples", True),
    ]
    assert [run["step"] for run in samples["runs"]] == [12, 12]
    content = b64decode(samples["runs"][0]["image"].partition(",")[2])
    assert content == (runs[0] / "media/samples-000012.png").read_bytes()
