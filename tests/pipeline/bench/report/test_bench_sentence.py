"""Laws of the answer of a benchmark: it claims what the intervals show, and nothing else."""

import re
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bench.report.fairness import unfairness, used_head, used_rows
from pipeline.bench.report.layers import layers_head, layers_rows
from pipeline.bench.report.page import page
from pipeline.bench.report.sentence import answer, reference, sentences
from pipeline.bench.report.table import growth_rows, layers_table, speed_rows
from pipeline.bench.results import INFER, TRAIN, Bench, Measured, times_as_fast
from pipeline.bench.statistics import FEWEST
from pipeline.compare.conditions import conditions_of
from pipeline.config.experiment import plain

NAMES = ("torch", "torch_compiled", "jax")


def measured(backend, batch, train, memory=100.0, beside=NAMES, precision="fp32"):
    """Return a measurement with six rounds of the same seconds, or with the given ones."""
    rounds = [train] * FEWEST if isinstance(train, float) else train
    return Measured(
        backend=backend, precision=precision, batch=batch, train=rounds, infer=rounds,
        beside=beside, memory_mb=memory, first_seconds=1.0, compile_seconds=0.5, parameters=10,
    )  # fmt: skip


def failed(backend, batch, reason):
    return Measured(backend=backend, precision="fp32", batch=batch, error=reason)


def bench(*all_measured, batch=64, precisions=("fp32",)):
    return Bench(
        title="cnn on digits", batch=batch, backends=NAMES, precisions=precisions,
        measured=all_measured,
    )  # fmt: skip


@st.composite
def benches(draw):
    """Benchmarks of two or three backends at up to five batch sizes."""
    names = NAMES[: draw(st.integers(2, 3))]
    batches = draw(st.lists(st.sampled_from([1, 8, 32, 64, 128, 256]), min_size=1, unique=True))
    rounds = draw(st.integers(1, 9))
    levels = st.sampled_from([1.0, 1.01, 2.0, 4.0])
    noise = st.lists(st.sampled_from([1.0, 1.125, 0.875]), min_size=rounds, max_size=rounds)
    found = []
    for size in batches:
        for name in names:
            level = draw(levels)
            found.append(measured(name, size, [level * factor for factor in draw(noise)]))
    return bench(*found)


@given(benches(), st.randoms())
def test_neither_the_speed_of_the_machine_nor_the_order_of_measurements_changes_the_answer(
    made, random
):
    slower = [
        replace(one, train=[4 * t for t in one.train], infer=[4 * t for t in one.infer])
        for one in made.measured
    ]
    shuffled = random.sample(slower, len(slower))
    assert sentences(replace(made, measured=shuffled)) == sentences(made)


@given(benches())
def test_every_claim_is_shown_by_the_interval_of_its_ratio(made):
    text = answer(made, "fp32", TRAIN)
    batch = reference(made, "fp32")
    assert f"at batch {batch} " in text
    at = made.at("fp32", batch)
    if "no difference is shown between" in text:
        best = re.search(r"between (\w+) and", text)[1]
        for name in at.keys() - {best}:
            gain = times_as_fast(at[best], at[name], TRAIN)
            assert not gain.low > 1
        return
    best = re.search(rf"at batch {batch} (\w+) trains", text)[1]
    for name in re.findall(r"as fast as (\w+)", text):
        assert times_as_fast(at[best], at[name], TRAIN).low > 1
    for names, first in re.findall(r"; ([\w, ]+) overtakes? it from batch (\d+)", text):
        larger = [size for size in made.batches("fp32") if size >= int(first)]
        assert int(first) > batch
        for name, size in product(re.split(", | and ", names), larger):
            there = made.at("fp32", size)
            assert times_as_fast(there[name], there[best], TRAIN).low > 1
    for last, names in re.findall(r"up to batch (\d+) ([\w, ]+) (?:is|are) faster", text):
        smaller = [size for size in made.batches("fp32") if size <= int(last)]
        assert int(last) < batch
        for name, size in product(re.split(", | and ", names), smaller):
            there = made.at("fp32", size)
            assert times_as_fast(there[name], there[best], TRAIN).low > 1


@given(benches())
def test_names_of_backends_can_be_exchanged(made):
    other = {"torch": "jax", "jax": "torch"}
    swapped = [replace(one, backend=other.get(one.backend, one.backend)) for one in made.measured]
    text, back = answer(made, "fp32", TRAIN), answer(replace(made, measured=swapped), "fp32", TRAIN)
    medians = [
        one.interval(TRAIN).median for one in made.at("fp32", reference(made, "fp32")).values()
    ]
    if len(set(medians)) == len(medians):
        best = re.search(r"(\w+) trains", text)
        if best:
            name = other.get(best[1], best[1])
            assert f"{name} trains" in back


def test_the_answer_names_factor_memory_and_who_overtakes():
    noise = [1.0, 1.02, 0.98, 1.01, 0.99, 1.0]
    made = bench(
        measured("torch", 64, [1.4 * n for n in noise], 100.0),
        measured("torch_compiled", 64, [1.2, 1.2, 1.2, 1.2, 1.2, 1.2], 100.0),
        measured("jax", 64, 1.0, 130.0),
        measured("torch", 256, 4.0),
        measured("torch_compiled", 256, 2.0),
        measured("jax", 256, 3.0),
        measured("torch", 8, 0.1),
        measured("torch_compiled", 8, 0.4),
        measured("jax", 8, 0.2),
        failed("torch", 512, "it says no"),
        failed("torch", 1024, "it says no"),
        failed("torch_compiled", 512, "killed by signal 9: probably out of memory"),
        failed("jax", 16, "it says no"),
    )
    assert answer(made, "fp32", TRAIN) == (
        "fp32: at batch 64 jax trains 1.40 ± 0.03 times as fast as torch and 1.2 times as fast as "
        "torch_compiled, and takes 1.3 times the memory; torch_compiled overtakes it from batch 256; up to "
        "batch 8 torch is faster; torch fails at batch 512 and 1024; torch_compiled runs out of memory from "
        "batch 512; jax fails at batch 16."
    )
    assert answer(made, "fp32", INFER).endswith("up to batch 8 torch is faster.")


def test_who_is_faster_at_one_larger_batch_alone_does_not_overtake():
    sizes = {8: 0.5, 32: 2.0, 64: 2.0, 128: 0.5, 256: 2.0}  # torch's seconds, beside one of jax
    pairs = [(measured("torch", n, s), measured("jax", n, 1.0)) for n, s in sizes.items()]
    text = answer(bench(*(one for pair in pairs for one in pair)), "fp32", TRAIN)
    assert text == (
        "fp32: at batch 64 jax trains 2 times as fast as torch and takes as much memory; up to batch 8 torch "
        "is faster."
    )


def test_no_difference_is_claimed_where_none_is_shown():
    made = bench(measured("torch", 64, [1.0, 2.0] * 3), measured("jax", 64, [2.0, 1.0] * 3))
    text = answer(made, "fp32", INFER)
    assert text == (
        "fp32: at batch 64 no difference is shown between jax and torch (1 times as fast, 0.5 to 2) "
        "in inference."
    )
    made = bench(*made.measured, measured("torch_compiled", 64, [4.0, 4.0] * 3))
    assert answer(made, "fp32", TRAIN) == (
        "fp32: at batch 64 jax trains 2.8 times (2 to 4) as fast as torch_compiled and takes as much memory; "
        "no difference to torch is shown."
    )


def test_backends_that_took_no_turns_with_each_other_are_not_compared():
    made = bench(
        measured("torch", 64, 1.0, beside=("torch",)), measured("jax", 64, 2.0, beside=("jax",))
    )
    assert sentences(made) == []


def test_the_nearest_batch_size_with_two_backends_is_compared():
    made = bench(
        *(measured(name, size, 1.0) for name in ("torch", "jax") for size in (8, 32, 128)),
        measured("torch", 64, 1.0), batch=65,
    )  # fmt: skip
    assert reference(made, "fp32") == 128


def test_layers_stand_side_by_side_by_name_with_their_part_of_the_step():
    torch = {"rest": (0.001, 0.0), "conv1": (0.001, 0.002)}
    jax = {"conv1": (0.0005, 0.0005), "": (0.001, 0.0), "unnamed": (0.002, 0.0)}
    made = bench(
        replace(measured("torch", 32, 1.0), layers=torch),
        measured("torch_compiled", 32, 1.0),
        replace(measured("jax", 32, 1.0), layers=jax),
    )
    assert layers_head(made)[2::3] == ["torch: forward ms", "jax: forward ms"]
    titles = [str(column.header) for column in layers_table(made).columns]
    assert titles[2:6] == ["torch\nforward ms", "\nbackward ms", "\n%", "jax\nforward ms"]
    assert layers_rows(made) == [
        ["fp32, 32", "conv1", "1", "2", "75", "0.5", "0.5", "25"],
        ["fp32, 32", "(model itself)", "–", "–", "–", "1", "0", "25"],
        ["fp32, 32", "(batch, loss, update)", "1", "0", "25", "–", "–", "–"],
        ["fp32, 32", "(not named by the compiler)", "–", "–", "–", "2", "0", "50"],
    ]
    assert layers_rows(bench(measured("torch", 32, 1.0))) == []


def test_the_page_escapes_what_could_end_its_data():
    made = replace(bench(measured("torch", 32, 1.0)), title="</script><b>")
    text = page(made)
    assert "</script><b>" not in text
    assert "\\u003c/script>" in text


@pytest.mark.parametrize("phase", [TRAIN, INFER])
def test_nothing_is_said_of_a_precision_without_measurements(phase):
    assert answer(bench(), "fp32", phase) == ""


def test_a_comparison_that_is_not_like_with_like_says_so_by_precision(configure):
    def under(backend, precision, option="", devices="cpu, 2 threads"):
        config = plain(configure(f"backend={backend} train.precision={precision} {option}"))
        told = conditions_of(backend, config, f"any on {devices}")
        return replace(measured(backend, 64, 1.0, precision=precision), conditions=told)

    like = [under(name, "fp32") for name in ("torch_compiled", "jax")]
    assert unfairness(bench(*like)) == []
    assert (
        unfairness(bench(under("torch", "fp32"), *like)) == []
    )  # eager beside compiled is asked for
    assert unfairness(bench(under("torch", "fp32"), like[1])) == [
        "not like with like: torch ran in eager mode, jax ran compiled; backends=torch_compiled compiles "
        "torch, too."
    ]
    attention = "model=vit dataset=cifar10 model.attention=written_out"
    other = [
        under("torch_compiled", "bf16", f"{attention} backend.channels_last=true"),
        under("jax", "bf16", "accelerator.deterministic=false", devices="NVIDIA H200"),
    ]
    made = bench(*like, *other, precisions=("fp32", "bf16"))
    assert unfairness(made) == [
        "bf16: not like with like: torch_compiled with deterministic algorithms on cpu, 2 threads, jax with "
        "any algorithms on NVIDIA H200."
    ]
    assert used_head(made)[-2:] == ["attention", "options"]
    torch, jax = used_rows(made)[-2:]
    assert (torch[2], torch[-2:]) == ("bfloat16", ["written_out", "channels_last=True"])
    assert (jax[2], jax[-2:]) == ("bfloat16", ["–", "–"])


def test_models_with_other_numbers_of_parameters_are_not_the_same():
    ours = [replace(measured(name, 64, 1.0), parameters=362) for name in NAMES]
    assert unfairness(bench(*ours)) == []
    assert unfairness(bench(*ours[:-1], replace(ours[-1], parameters=634))) == [
        f"not the same model: {NAMES[0]} has 362 parameters, {NAMES[1]} has 362 parameters, {NAMES[2]} has "
        "634 parameters; python -m pipeline.parity with the keys of this experiment tells what differs."
    ]


def test_rounds_without_a_partner_after_an_interruption_count_for_no_ratio():
    torch, jax = measured("torch", 64, [2.0] * 7), measured("jax", 64, [1.0] * 6)
    assert times_as_fast(jax, torch, TRAIN).count == 6
    larger = [replace(measured(name, 128, 2.0), infer=(), memory_mb=None) for name in NAMES[::2]]
    made = bench(torch, jax, *larger)
    assert growth_rows(made) == []  # one batch size is whole
    assert answer(made, "fp32", INFER).startswith("fp32: at batch 64 jax infers 2 times as fast")
    assert answer(replace(made, batch=128), "fp32", INFER) == ""
    assert "samples per second" in page(made)


def test_a_backend_that_was_measured_alone_has_its_speed_as_the_answer():
    others = [failed(name, 32, "it fails: " + "why " * 30) for name in NAMES[1:]]
    made = bench(measured("torch", 32, 0.5), measured("torch", 256, 2.0), *others)
    assert sentences(made) == [
        "fp32: at batch 32 torch trains 64 samples per second, and torch_compiled and jax were not measured."
    ]
    assert sentences(replace(made, backends=("torch",))) == [
        "fp32: at batch 32 torch trains 64 samples per second."
    ]
    assert [row[2] for row in speed_rows(made) if row[1] != "torch"] == ["failed"] * 2
    short = replace(made, measured=[replace(one, error="out of memory") for one in others])
    assert [row[2] for row in speed_rows(short)] == ["out of memory"] * 2
    assert sentences(short) == []
