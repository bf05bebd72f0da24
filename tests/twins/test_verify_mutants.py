"""A sample of the mutants and rewrites of `benchmarks/verify_mutants`: all of them take an hour."""

from dataclasses import replace

import pytest

from benchmarks.verify_mutants.judging import judge_pair
from benchmarks.verify_mutants.mistakes import MISTAKES, mutants
from benchmarks.verify_mutants.rewrites import rewritten
from benchmarks.verify_mutants.score import score

# One of each part of a step, each side and each order of the sides, on models that compile fast.
MUTANTS = {one.name: one for one in mutants()}
REWRITES = {one.name: one for one in rewritten()}
FOUND = [
    "mlp: leaky slope (linen)",
    "mlp: epsilon (torch)",
    "mlp: residual missing (torch)",
    "mlp: final norm missing (linen)",
    "mlp: size of the noise (linen)",
    "mlp: dropout rate (torch)",
    "mlp: label smoothing (torch)",
    "mlp: gradient of features stopped (torch)",
    "gru: reset gate before the product (torch)",
    "gru: gradient through time stopped (torch)",
    "cnn: offset of the factor (linen)",
    "unet: dropout of whole channels (torch)",
]
EXPLAINED = [
    "bert: mask after the softmax (torch)",
    "gpt: labels not shifted (linen)",
    "lstm: cell for the hidden state (linen)",
    "mlp: log softmax in the model (torch)",
    "llama: gate exchanged for what it gates (linen)",
    "lstm: hard sigmoid in the gates (linen)",
    "lstm: order of gates (linen)",
    "vit: order of heads (linen)",
    "vit: queries and keys exchanged (torch)",
]
SAME = [
    "mlp: einsum for dense (linen against torch)",
    "mlp: parameters with axes of size 1 (torch against linen)",
    "mlp: meaningless names (linen against torch)",
    "gru: time in a scan (linen against linen)",
    "gru: a product for each gate (torch against linen)",
    "lstm: the library's recurrent layer (linen against torch)",
]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("float64")]


@pytest.mark.parametrize("name", FOUND)
def test_a_mistake_is_found_in_its_part_and_place(name):
    told = judge_pair(MUTANTS[name])
    scored = score(MUTANTS[name], told)
    assert told["verdict"] == "part", told["sentence"]
    assert scored.part, f"{told['part']}: {told['sentence']}"
    assert scored.place, told["sentence"]


@pytest.mark.parametrize("name", EXPLAINED)
def test_a_mistake_has_its_place_and_its_cause_confirmed(name):
    told = judge_pair(MUTANTS[name])
    scored = score(MUTANTS[name], told)
    assert (told["verdict"], told["confirmed"]) == ("part", "True"), told["sentence"]
    assert scored.place, told["sentence"]
    assert scored.cause, told["cause"]


@pytest.mark.parametrize("name", SAME)
def test_another_way_to_write_a_model_is_the_same(name):
    told = judge_pair(REWRITES[name])
    assert told["verdict"] == "same", told["sentence"]


def test_there_are_enough_mistakes_models_and_rewrites():
    assert len(MISTAKES) >= 45
    assert len(MUTANTS) >= 200
    assert len(REWRITES) >= 60
    assert len(MUTANTS) == len(list(mutants())), "two mutants share a name"


def test_a_wrong_place_part_or_cause_scores_nothing():
    mutant = MUTANTS["mlp: leaky slope (linen)"]
    right = {
        "verdict": "part", "part": "forward", "left": "between fc1 and fc2",
        "right": "Mlp.Dense_1", "cause": "negative slope", "sentence": "",
    }  # fmt: skip
    assert vars(score(mutant, right)) == {
        "verdict": True, "place": True, "part": True, "cause": True, "is_false_same": False,
    }  # fmt: skip
    wrong = right | {
        "part": "gradient",
        "left": "head",
        "right": "Mlp.classifier",
        "cause": "epsilon",
    }
    assert vars(score(mutant, wrong)) == {
        "verdict": True, "place": False, "part": False, "cause": False, "is_false_same": False,
    }  # fmt: skip
    same = {"verdict": "same", "sentence": ""}
    assert score(mutant, same).is_false_same
    relabelled = replace(mutant, mistake=replace(mutant.mistake, relabels=True))
    assert not score(relabelled, same).is_false_same
