"""Comparison of runs: names, pairs of backends, statistics over seeds, and damaged files."""

import math

import numpy as np
import pytest
from scipy.stats import t

from pipeline.compare.comparison import comparison, config_differences
from pipeline.compare.conditions import conditions, unlike
from pipeline.compare.curves import Target
from pipeline.compare.table import csv_table, findings, markdown, terminal_table
from pipeline.errors import UserError


def rows(*losses):
    return [
        {"step": 10 * n, "train/loss": loss, "perf/seconds": 2.0 * n}
        for n, loss in enumerate(losses, start=1)
    ]


def test_runs_are_named_by_the_values_that_differ(write_run, tmp_path):
    write_run("0_a", "backend=torch model=mlp optimizer.lr=0.01")
    write_run("1_b", "backend=jax model=mlp optimizer.lr=0.01")
    write_run("2_c", "backend=jax model=cnn optimizer.lr=0.003")
    made = comparison([tmp_path])
    assert [record.name for record in made.records] == [
        "backend=torch model=mlp optimizer.lr=0.01",
        "backend=jax model=mlp optimizer.lr=0.01",
        "backend=jax model=cnn optimizer.lr=0.003",
    ]
    assert made.varied == ["backend.name", "model.name", "optimizer.lr"]


def test_jobs_are_ordered_by_number_within_each_sweep(write_run, tmp_path):
    for name in ("b/10_x", "b/2_x", "a/3_x"):
        write_run(name)
    made = comparison([tmp_path])
    assert [record.folder.name for record in made.records] == ["3_x", "2_x", "10_x"]


def test_a_run_given_twice_is_compared_once(write_run, tmp_path):
    run = write_run("run")
    assert len(comparison([run, tmp_path, run]).records) == 1


def test_runs_with_equal_names_are_distinguished_by_their_folders(write_run, tmp_path):
    first, second = write_run("0_a", "seed=1"), write_run("1_b", "seed=1")
    other = write_run("2_c", "seed=2")
    made = comparison([tmp_path])
    assert [record.name for record in made.records] == [
        f"seed=1 ({first})",
        f"seed=1 ({second})",
        "seed=2",
    ]
    assert other.name == "2_c"


def test_a_folder_without_runs_is_bad_input(tmp_path):
    with pytest.raises(UserError, match="a run or a sweep"):
        comparison([tmp_path])


def test_runs_that_differ_only_in_the_backend_are_pairs(write_run, tmp_path):
    write_run("0", "backend=jax seed=0")
    write_run("1", "backend=torch seed=1")
    write_run("2", "backend=torch seed=0 train.log_every=7")  # which cannot change the result
    write_run("3", "backend=jax seed=1 optimizer.lr=0.5")
    made = comparison([tmp_path])
    assert [pair.runs for pair in made.pairs] == [(2, 0)]
    assert made.pairs[0].name == "optimizer.lr=0.003 train.log_every=7 seed=0"


def test_a_command_run_twice_makes_two_pairs(write_run, tmp_path):
    for name in ("a/0", "b/0"):
        write_run(name, "backend=torch")
        write_run(f"{name[0]}/1", "backend=jax")
    assert [pair.runs for pair in comparison([tmp_path]).pairs] == [(0, 1), (2, 3)]


def test_compiled_torch_is_a_backend_of_its_own(write_run, tmp_path):
    for number, backend in enumerate(("jax", "torch_compiled", "torch")):
        for seed in (0, 1):
            speed = 1000.0 * (number + 1) + seed
            run = f"backend={backend} seed={seed} train.precision=fp64"
            write_run(
                f"{number}{seed}", run, rows(2.0, 1.0 + number * 1e-12), {"throughput": speed}
            )
    made = comparison([tmp_path])
    assert made.records[2].name == "backend=torch_compiled seed=0"
    assert [pair.name for pair in made.pairs if 0 in pair.runs] == [
        "seed=0, torch_compiled and jax",
        "seed=0, torch and jax",
    ]
    assert [len(made.pairs), all(pair.same for pair in made.pairs)] == [6, True]
    ratios = {one.backends: one.words for one in made.effects if one.key == "throughput"}
    assert ratios["torch", "torch_compiled"].startswith("torch_compiled is 0.6667 [")
    assert set(ratios) == {("torch", "torch_compiled"), ("torch", "jax"), ("torch_compiled", "jax")}


def test_a_sentence_says_when_speeds_are_not_like_with_like(write_run, tmp_path):
    cpu, gpu = {"devices": "torch on cpu, 2 threads"}, {"devices": "jax on NVIDIA H200"}
    write_run("torch", "backend=torch", rows(2.0), cpu)
    write_run("jax", "backend=jax train.precision=bf16", rows(2.0), gpu)
    made = comparison([tmp_path])
    told = (
        "not like with like: torch ran in eager mode in float32 on cpu, 2 threads, jax ran compiled in "
        "bfloat16 on NVIDIA H200; backend=torch_compiled compiles torch, too"
    )
    speed = findings(made)["speed: what each run used"]
    assert speed[-1] == told
    assert speed[1] == (
        "torch (1 run): eager, float32, highest products, deterministic algorithms, cpu, 2 threads, "
        "steps per call: 1"
    )
    compiled = "backend=torch_compiled backend.mode=max-autotune"
    write_run("compiled", f"{compiled} train.precision=bf16", rows(2.0), cpu)
    found = conditions(comparison([tmp_path]).records)
    assert [one.values["mode"] for one in found] == ["compiled (max-autotune)", "compiled", "eager"]
    assert "in float32 on cpu" in unlike(found)
    assert "compiles torch, too" not in unlike(found)
    write_run("fallback", "backend=jax", rows(2.0), {"devices": "jax on cpu", "fallback": "why"})
    found = conditions(comparison([tmp_path]).records)
    assert {one.values["devices"] for one in found} >= {"cpu, not on the GPU", "NVIDIA H200"}


def test_compiled_torch_and_jax_are_like_with_like(write_run, tmp_path):
    for backend in ("torch", "torch_compiled", "jax"):
        for precision in ("fp32", "bf16"):
            write_run(f"{backend}-{precision}", f"backend={backend} train.precision={precision}")
    found = conditions(comparison([tmp_path]).records)
    assert [len(found), unlike(found)] == [6, ""]
    assert [one.runs for one in found] == [(at,) for at in range(6)]
    one_alone = [one for one in found if one.values["backend"] == "torch"]
    assert unlike(one_alone) == unlike([]) == ""
    keys = "backend.fused=false backend.xla_flags.xla_a=1 train.remat=true model.attention=fused"
    write_run("keys", f"backend=jax model=vit dataset=cifar10 {keys}")
    [own] = [
        one.values for one in conditions(comparison([tmp_path]).records) if one.values["options"]
    ]
    told = "xla_flags.xla_a=1, remat"  # JAX reads no backend.fused
    assert [own["options"], own["attention"]] == [told, "fused"]
    write_run(
        "wild", "backend=jax accelerator.deterministic=false accelerator.matmul_precision=tf32"
    )
    told = unlike(conditions(comparison([tmp_path]).records))
    assert told.endswith("jax with highest and tf32 products with any and deterministic algorithms")


def test_runs_that_trained_at_once_are_not_like_those_of_the_other_backend_alone(
    write_run, tmp_path
):
    write_run("torch", "backend=torch_compiled")
    write_run("jax", "backend=jax", result={"vectorized": 4})
    told = unlike(conditions(comparison([tmp_path]).records))
    assert told.endswith("torch_compiled trained one run at a time, jax trained 4 runs at once")
    write_run("pair/torch", "backend=torch")
    write_run("pair/jax", "backend=jax", result={"vectorized": 4})
    told = unlike(conditions(comparison([tmp_path / "pair"]).records))
    assert (
        "torch ran in eager mode and trained one run at a time, jax ran compiled and trained"
        in told
    )
    write_run("alone", "backend=jax", result={"alone": "there is no other job to train with"})
    speed = findings(comparison([tmp_path]))["speed: what each run used"]
    assert any("one by one: there is no other job to train with" in line for line in speed)


def test_what_a_run_took_is_told_instead_of_what_was_asked_for(write_run, tmp_path):
    def told(torch, jax):
        for backend, kernels in (("torch_compiled", torch), ("jax", jax)):
            took = {"attention": kernels, "steps_per_call": 4} if kernels else {}
            name = f"{torch}-{jax}/{backend}"
            write_run(name, f"backend={backend} model=vit dataset=cifar10", result=took)
        return conditions(comparison([tmp_path / f"{torch}-{jax}"]).records)

    found = told("flash", "written_out")
    assert {one.values["steps per call"] for one in found} == {"4"}
    sentence = "torch_compiled with flash attention, jax with written_out attention"
    assert unlike(found) == f"not like with like: {sentence}"
    # The same is in memory; and an older run does not tell.
    assert {one.values["attention"] for one in told("flash", None)} == {"flash", "auto"}
    for pair in (("efficient and flash", "cudnn"), ("math", "written_out"), ("cudnn", None)):
        assert unlike(told(*pair)) == ""


def write_pair(write_run, ours, theirs, overrides="", **results):
    """Write a run on each backend."""
    for name, losses in (("torch", ours), ("jax", theirs)):
        result = results.get(name, {})
        write_run(name, f"backend={name} {overrides}", rows(*losses), result)


@pytest.mark.parametrize(
    ("theirs", "same", "words"),
    [
        ((2.0, 1.0), True, "the same: train/loss differs by at most 0.0e+00 (step 10)"),
        ((2.0, 1.0 + 4e-13), True, "the same: train/loss differs by at most 4.0e-13 (step 20)"),
        ((2.0, 1.0 + 4e-9), False, "they part: train/loss differs by at most 4.0e-09 (step 20)"),
        ((2.0, math.nan), False, "they part: train/loss differs by at most inf (step 20)"),
    ],
)
def test_fp64_pairs_are_the_same_within_1e_10_and_otherwise_part(
    write_run, tmp_path, theirs, same, words
):
    shown = [value if value == value else "NaN" for value in theirs]
    write_pair(write_run, (2.0, 1.0), shown, "train.precision=fp64")
    [pair] = comparison([tmp_path]).pairs
    assert (pair.same, pair.words) == (same, words)


def test_fp32_pairs_get_no_verdict_on_rounding(write_run, tmp_path):
    write_pair(write_run, (2.0, 1.0), (2.0, 1.01))
    [pair] = comparison([tmp_path]).pairs
    assert pair.same is None
    assert pair.words == (
        "the same weights at step 0 and the same batches: "
        "train/loss differs by at most 9.9e-03 (step 20)"
    )


@pytest.mark.parametrize(
    ("digest", "what"), [("init_digest", "the weights at step 0"), ("data_digest", "the batches")]
)
def test_a_pair_with_other_initial_weights_or_batches_is_not_the_same_experiment(
    write_run, tmp_path, digest, what
):
    write_pair(write_run, (1.0,), (1.0,), jax={digest: "other"})
    [pair] = comparison([tmp_path]).pairs
    assert pair.same is False
    assert pair.words == f"not the same experiment: {what} differ ({digest})"


def test_a_pair_in_which_one_run_failed_early_has_no_verdict(write_run, tmp_path):
    write_pair(
        write_run, (1.0,), (), jax={"status": "failed", "init_digest": None, "error": "boom"}
    )
    [pair] = comparison([tmp_path]).pairs
    assert (pair.same, pair.words) == (None, "not known: no init_digest of both yet")


def test_independent_dropout_masks_of_a_pair_are_reported(write_run, tmp_path):
    write_pair(
        write_run, (1.0,), (2.0,), "model=gpt dataset=text model.dropout=0.1 train.precision=fp64"
    )
    [pair] = comparison([tmp_path]).pairs
    assert pair.same is None
    assert pair.words.startswith("each backend drew its own dropout masks: train/loss differs by")


def outcome(accuracy, seconds=10.0):
    return {
        "test": {"test/accuracy": accuracy},
        "best": {"metric": "val/accuracy", "value": accuracy},
        "seconds": {"total": seconds},
    }


def write_seeds(write_run, torch, jax):
    for backend, accuracies in (("torch", torch), ("jax", jax)):
        for seed, accuracy in enumerate(accuracies):
            write_run(f"{backend}{seed}", f"backend={backend} seed={seed}", (), outcome(accuracy))


def test_seeds_are_grouped_and_backends_are_compared_over_common_seeds(write_run, tmp_path):
    write_seeds(write_run, (0.90, 0.91, 0.93, 0.92), (0.93, 0.95, 0.95, 0.95))
    made = comparison([tmp_path])
    assert [group.name for group in made.seeds] == ["backend=jax", "backend=torch"]
    assert made.seeds[1].estimates["test/accuracy"].mean == pytest.approx(0.915)
    assert made.seeds[1].estimates["test/accuracy"].count == 4
    words = {effect.key: effect.words for effect in made.effects}
    assert words["test/accuracy"].startswith("jax is better than torch by 0.03 [0.017")
    assert words["seconds"].startswith("no difference shown: ratio 1 [1, 1]")


def test_folds_are_averaged_like_seeds_with_wider_intervals(write_run, tmp_path):
    accuracies = {"torch": (0.90, 0.91, 0.93, 0.92), "jax": (0.93, 0.95, 0.95, 0.95)}
    for backend, values in accuracies.items():
        for fold, accuracy in enumerate(values):
            keys = f"backend={backend} dataset.folds=4 dataset.fold={fold}"
            write_run(f"{backend}{fold}", keys, (), outcome(accuracy))
    made = comparison([tmp_path])
    assert [group.name for group in made.seeds] == ["backend=jax", "backend=torch"]
    assert made.repeats == "folds"
    found = made.seeds[1].estimates["test/accuracy"]
    assert (found.mean, found.count) == (pytest.approx(0.915), 4)
    low, high = t.interval(
        0.95, 3, 0.915, np.std(accuracies["torch"], ddof=1) * (1 / 4 + 1 / 3) ** 0.5
    )
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    [effect] = [effect for effect in made.effects if effect.key == "test/accuracy"]
    assert effect.words.startswith("no difference shown: difference 0.03 [0.01015, 0.04985]")
    assert effect.words.endswith("4 folds")
    assert "over folds: mean" in markdown(made)


def test_a_seed_that_one_backend_lacks_is_left_out_of_the_paired_difference(write_run, tmp_path):
    write_seeds(write_run, (0.90, 0.91, 0.93), (0.93, 0.95))
    made = comparison([tmp_path])
    [effect] = [effect for effect in made.effects if effect.key == "test/accuracy"]
    assert effect.estimate.count == 2
    assert effect.estimate.mean == pytest.approx(0.035)


def test_failed_seeds_are_left_out_of_the_statistics(write_run, tmp_path):
    write_seeds(write_run, (0.90, 0.92), (0.9, 0.92))
    write_run("torch9", "backend=torch seed=9", (), outcome(0.1) | {"status": "failed"})
    [torch] = [g for g in comparison([tmp_path]).seeds if g.name == "backend=torch"]
    assert torch.estimates["test/accuracy"].mean == pytest.approx(0.91)


def test_one_seed_gives_no_statistics(write_run, tmp_path):
    write_seeds(write_run, (0.9,), (0.8,))
    assert comparison([tmp_path]).seeds == []


def test_the_default_target_is_the_best_value_that_all_finished_runs_reached(write_run, tmp_path):
    for name, accuracies in (("0", (0.5, 0.9)), ("1", (0.7, 0.95))):
        lines = [
            {"step": n, "val/accuracy": value, "perf/seconds": n * 1.5}
            for n, value in enumerate(accuracies, start=1)
        ]
        write_run(name, f"seed={name}", lines, outcome(max(accuracies)))
    write_run("2", "seed=2", (), {"status": "failed"})
    made = comparison([tmp_path])
    assert made.target == Target("val/accuracy", 0.9, maximized=True)
    assert [record.reading.reached for record in made.records] == [(2, 3.0), (2, 3.0), None]


def test_the_cost_counts_all_devices(write_run, tmp_path):
    write_run("run", result=outcome(0.9, seconds=1800.0) | {"device_count": 4})
    made = comparison([tmp_path], price=2.5)
    assert made.cost(made.records[0]) == pytest.approx(0.5 * 4 * 2.5)


def test_a_run_without_a_result_is_reported_and_keeps_its_curves(write_run, tmp_path):
    write_run("run", rows=rows(1.0, 0.5), result=None)
    [record] = comparison([tmp_path]).records
    assert record.status == "lost"
    assert record.notes == ["no result.json: the run ended without writing one"]
    assert record.reading.curves["train/loss"].value.tolist() == [1.0, 0.5]
    assert record.reading.steps == 20


def test_damaged_files_are_reported_and_do_not_stop_the_comparison(write_run, tmp_path):
    write_run("0", "seed=0", rows(1.0)[0:0] or b'{"step": 1, "train/loss": 1.0}\n{"step": 2, "tr')
    broken = write_run("1", "seed=1", rows(1.0), identity=True)
    (broken / "result.json").write_text('{"status": "comp')
    strange = write_run("2", "seed=2", rows(1.0), identity=True)
    (strange / "result.json").write_text("[1, 2]")
    missing = write_run("3", "seed=3", rows(1.0))
    (missing / "metrics.jsonl").unlink()
    notes = [record.notes for record in comparison([tmp_path]).records]
    assert notes[0] == ["metrics.jsonl: line 2 is torn and left out"]
    assert notes[1][0].startswith("result.json cannot be read: Unterminated string")
    assert notes[2][0] == "result.json is no JSON object, but list"
    assert notes[3] == ["metrics.jsonl cannot be read: No such file or directory"]
    early = write_run("4", "seed=4", (), {"status": "failed"})  # before its first step
    (early / "metrics.jsonl").unlink()
    assert comparison([tmp_path]).records[4].notes == []


@pytest.mark.parametrize(
    "damage",
    [
        {"test": [1, 2]},
        {"test": {"test/loss": "NaN"}},
        {"test": {"test/loss": None}},
        {"best": "none"},
        {"best": {"metric": "val/loss", "value": None}},
        {"best": {"metric": ["val/loss"], "value": 1.0}},
        {"seconds": None},
        {"seconds": {"total": "ten"}},
        {"config": [1]},
        {"throughput": "fast"},
        {"throughput": 0.0},
        {"versions": ["torch"]},
        {"hardware": {"cores": 2}},
        {"status": None},
        {"status": 7},
        {"device_count": "many"},
        {"steps": "all"},
        {"peak_memory_mb": [1]},
        {"error": ["a", "b"]},
        {"name": 5},
    ],
    ids=str,
)
def test_a_malformed_result_does_not_stop_the_comparison(write_run, tmp_path, damage):
    for seed in (0, 1):
        for backend in ("torch", "jax"):
            write_run(f"{backend}{seed}", f"backend={backend} seed={seed}", rows(1.0), outcome(0.5))
    write_run("damaged", "seed=3", rows(1.0), damage)
    made = comparison([tmp_path], price=1.0)
    assert len(made.records) == 5
    assert "damaged" in csv_table(made)
    assert markdown(made).count("\n| ") >= 5
    terminal_table(made, 100)


def test_different_versions_and_machines_are_reported(write_run, tmp_path):
    write_run("0", "seed=0", result={"versions": {"jax": "0.10.2"}, "hardware": {"cores": 2}})
    write_run("1", "seed=1", result={"versions": {"jax": "0.11.0"}, "hardware": {"cores": 8}})
    assert comparison([tmp_path]).notes == [
        "the runs had different versions of jax: 0.10.2, 0.11.0",
        "the runs were on different cores: 2, 8",
    ]


def test_config_differences_include_keys_that_names_leave_out(write_run, tmp_path):
    write_run("0", "optimizer=adamw seed=0 train.stop_after=5")
    write_run("1", "optimizer=sgd seed=0")
    found = config_differences(comparison([tmp_path]))
    assert found["train.stop_after"] == ["5", "None"]
    assert found["optimizer.momentum"][0] == "–"
    assert "seed" not in found


def test_the_result_of_a_parity_check_is_included(write_run, tmp_path):
    write_run("run")
    (tmp_path / "proof").mkdir()
    (tmp_path / "proof" / "parity.json").write_text(
        '{"verdict": "same", "sentence": "the same: over 5 steps", "steps": 5, "parts": {}}'
    )
    [found] = comparison([tmp_path]).parities
    assert found["sentence"] == "the same: over 5 steps"
    assert found["folder"] == str(tmp_path / "proof")
