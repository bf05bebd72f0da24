"""Turns of a benchmark: their order, their end, and what happens when a backend or the memory ends."""

from dataclasses import replace
from itertools import pairwise

import pytest

from pipeline.bench.plan import make_plan
from pipeline.bench.results import INFER, TRAIN, Measured, times_as_fast
from pipeline.bench.statistics import FEWEST, ratio
from pipeline.bench.timing.measure import Measurement, with_batch
from pipeline.bench.timing.side import Failed, Ready, Turn
from pipeline.bench.timing.turns import MOST_ROUNDS, TURN, Side, take_turns, turn_seconds


class Clockwork:
    """A side whose turns last what it is told; all share one list of who took a turn."""

    def __init__(self, name, seconds, taken, ends_after=10**6):
        self.name, self.each, self.taken, self.ends_after = name, seconds, taken, ends_after
        self.seconds, self.failed = {TRAIN: [], INFER: []}, None

    def take(self, phase):
        if len(self.seconds[phase]) == self.ends_after:
            self.failed = Failed("out of memory")
            return None
        self.taken.append(self.name)
        return Turn(2, 2 * self.each(len(self.taken)))


def test_the_order_of_turns_is_reversed_every_other_round():
    taken = []
    sides = [Clockwork(name, lambda _: 1.0, taken) for name in ("torch", "jax")]
    take_turns(sides, TRAIN, 10)
    assert taken == ["torch", "jax", "jax", "torch"] * (FEWEST // 2)
    assert [side.seconds[TRAIN] for side in sides] == [[1.0] * FEWEST] * 2
    assert sides[0].seconds[INFER] == []


def test_a_machine_that_gets_slower_hits_both_alike():
    taken = []
    torch = Clockwork("torch", lambda turn: 1.0 + turn / 100, taken)
    jax = Clockwork("jax", lambda turn: 2.0 * (1.0 + turn / 100), taken)
    take_turns([torch, jax], TRAIN, 10)
    found = ratio(torch.seconds[TRAIN], jax.seconds[TRAIN])
    assert found.low < 2 < found.high
    assert found.median == pytest.approx(2, rel=1e-3)
    assert all(a < b for a, b in pairwise(torch.seconds[TRAIN]))


def test_noise_asks_for_more_rounds_up_to_a_limit():
    taken = []
    noisy = Clockwork("torch", lambda turn: 1.0 + turn % 11, taken)
    take_turns([noisy, Clockwork("jax", lambda _: 1.0, taken)], TRAIN, 10)
    assert len(noisy.seconds[TRAIN]) == MOST_ROUNDS
    hurried = Clockwork("torch", lambda turn: 1.0 + turn % 11, taken)
    take_turns([hurried, Clockwork("jax", lambda _: 1.0, taken)], TRAIN, 0)
    assert len(hurried.seconds[TRAIN]) == FEWEST


def test_turns_are_short_enough_for_all_rounds_in_the_time():
    assert turn_seconds(3, 1000) == TURN
    assert turn_seconds(2, 1.2) * 2 * FEWEST == pytest.approx(1.2)


def test_a_side_that_fails_leaves_and_the_others_go_on():
    taken = []
    sides = [
        Clockwork("torch", lambda _: 1.0, taken, ends_after=2),
        Clockwork("jax", lambda _: 1.0, taken),
    ]
    take_turns(sides, TRAIN, 10)
    assert len(sides[0].seconds[TRAIN]) == 2
    assert len(sides[1].seconds[TRAIN]) == FEWEST
    assert sides[0].failed.reason == "out of memory"


def test_a_process_that_the_kernel_ends_is_probably_out_of_memory():
    config = make_plan(["model=linear", "accelerator=cpu"]).config("torch")
    with Side("torch", with_batch(config, 8)) as side:
        side.process.kill()
        side.begin(TRAIN)
        assert side.failed.reason == "killed by signal 9: probably out of memory"
        assert side.take(TRAIN) is None
        assert side.time_layers().times == {}


@pytest.fixture
def measurement():
    """A measurement that has not begun, and the lines that it reports."""
    lines = []
    plan = make_plan(["model=linear", "accelerator=cpu", "precisions=fp32", "backends=torch,jax"])
    return Measurement(plan, lines.append), lines


def test_batches_that_would_not_fit_into_the_memory_are_left_out(measurement):
    made, lines = measurement
    known = Measured(backend="torch", precision="fp32", batch=1, train=[1.0] * 6, memory_mb=1000.0)
    made.measured = [known, replace(known, batch=2, memory_mb=2000.0)]
    assert made.fits("fp32", 4, ["torch", "jax"])
    assert not made.fits("fp32", 2**20, ["torch", "jax"])
    [line] = lines
    assert (
        "fp32: batches from 1048576 on are left out: they need about 1,024,000.0 GB, and " in line
    )
    assert made.notes[0] in line
    made.plan = replace(made.plan, batch_sizes=[2**20])
    assert made.fits("fp32", 2**20, ["torch", "jax"])  # it was asked for


def test_larger_batches_are_left_out_once_nothing_is_left_to_compare(measurement, monkeypatch):
    made, _ = measurement
    torch = Measured(backend="torch", precision="fp32", batch=1, train=[1.0] * 6, memory_mb=1.0)
    broken = Measured(backend="jax", precision="fp32", batch=1, error="model.jax=my:Net: it fails.")
    known = {"torch": torch, "jax": broken}

    def measure_batch(precision, batch, configs):
        found = [replace(known[name], batch=batch) for name in configs]
        made.measured += found
        return found, 0.0

    monkeypatch.setattr(made, "measure_batch", measure_batch)
    made.measure_sizes("fp32")
    assert [(one.backend, one.batch) for one in made.measured] == [
        ("torch", 1), ("jax", 1), ("torch", 2), ("jax", 2),
    ]  # fmt: skip
    reason = "batches from 4 on are left out: nothing is left to compare torch with"
    assert made.notes == [f"fp32: {reason}"]
    assert made.bench.unmeasured() == {"jax": "model.jax=my:Net: it fails."}
    made.plan = replace(made.plan, batch_sizes=[4, 8, 16])
    made.measure_sizes("fp32")
    assert made.measured[-1].batch == 16  # they were asked for


def test_a_precision_that_the_device_has_not_is_measured_with_a_note():
    lines = []
    plan = make_plan(["model=linear", "accelerator=cpu", "precisions=fp32,tf32", "backends=torch"])
    made = Measurement(plan, lines.append)
    assert made.precisions == ["fp32", "tf32"]
    assert made.notes == ["tf32: this device has no instructions for it, and computes as in fp32"]
    assert made.notes[0] in lines[0]


def test_a_note_is_kept_once(measurement):
    made, lines = measurement
    made.note("torch is left out")
    made.note("torch is left out")
    assert made.notes == ["torch is left out"]
    assert lines == ["[yellow]torch is left out[/]"]


def test_turns_before_an_interruption_are_kept(measurement):
    made, lines = measurement
    ready = Ready(TRAIN, "torch on cpu, 1 thread", "", 3.0, 1.0, 100.0, 650, 1)
    sides = [Clockwork(name, lambda _: 0.5, []) for name in ("torch", "jax")]
    for side, rounds in zip(sides, (4, 3), strict=True):
        side.config, side.ready = made.config, {TRAIN: ready}
        side.seconds[TRAIN] = [0.5] * rounds
    waiting = Clockwork("torch_compiled", lambda _: 0.5, [])
    waiting.ready = {TRAIN: ready}  # it has begun no turn
    torch, jax = made.keep([*sides, waiting], "fp32", 32, {})
    assert (len(torch.train), torch.infer, torch.memory_mb) == (4, [], None)
    assert (torch.first_seconds, torch.beside) == (3.0, ["torch", "jax"])
    assert torch.conditions["devices"] == "cpu, 1 thread"
    assert times_as_fast(torch, jax, TRAIN).count == 3
    assert "4 rounds" in lines[0]
    waiting.failed = Failed("model.torch=my:Net: it fails")
    made.keep([waiting], "fp32", 32, {})
    assert made.notes == ["fp32, batch 32: torch_compiled: model.torch=my:Net: it fails"]
