"""Pairs that nobody here wrote: torch and Flax models of transformers 4.53.3, see `make huggingface`."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.verify_pairs.huggingface import find
from benchmarks.verify_pairs.measure import judge_case

FOLDER = Path(__file__).resolve().parents[2] / "build" / "huggingface"
if FOLDER.is_dir() and str(FOLDER) not in sys.path:
    sys.path.append(str(FOLDER))


def has_flax_models() -> bool:
    package = find_spec("transformers")
    folders = package.submodule_search_locations if package else None
    return bool(folders) and Path(folders[0], "models", "bert", "modeling_flax_bert.py").is_file()


pytestmark = [
    pytest.mark.usefixtures("verify_workers"),
    pytest.mark.slow,
    pytest.mark.skipif(
        not has_flax_models(), reason="needs transformers 4.53.3 with Flax: make huggingface"
    ),
]


@pytest.mark.parametrize("is_named", [True, False], ids=["named", "renamed"])
@pytest.mark.parametrize(
    "case", ["ViTForImageClassification", "BertForSequenceClassification", "GPT2LMHeadModel"]
)
def test_two_halves_that_do_the_same_are_the_same(case, is_named):
    verdict, is_aligned = judge_case(find(case), is_named)
    assert verdict.verdict == "same", verdict.sentence
    assert is_aligned
    assert max(verdict.differences.values()) < 1e-8
    assert {"forward", "forward in training", "gradient", "update"} <= set(verdict.differences)


def test_the_transposed_kernels_of_gpt2_are_found_by_their_values():
    verdict, _ = judge_case(find("GPT2LMHeadModel"))
    rows = {row["left"]: row for row in verdict.alignment}
    kernel = rows["transformer.h.0.attn.c_attn.weight"]
    assert (kernel["right"], kernel["transform"]) == (
        "transformer.h.0.attn.c_attn.kernel",
        "transpose(1, 0)",
    )


def test_resnet_parts_in_its_running_variance():
    """torch keeps the variance of a sample, Flax that of the batch; names differ, too."""
    verdict, is_aligned = judge_case(find("ResNetForImageClassification"))
    assert (verdict.verdict, is_aligned) == ("part", True)
    assert verdict.first.part == "buffers"
    assert verdict.first.left.endswith("embedder.normalization.running_var")
    assert verdict.first.right.endswith("embedder.normalization.var")
    # One part in 2 × 16 × 16 values behind the first convolution's stride, ten per cent of it kept.
    assert 1e-5 < verdict.first.difference < 1e-2
    assert verdict.cause.name == "biased running variance"


def test_t5_parts_in_training_behind_the_attention_to_the_encoder():
    """Its Flax half has no dropout there."""
    verdict, is_aligned = judge_case(find("T5ForConditionalGeneration"))
    assert (verdict.verdict, is_aligned) == ("part", True)
    assert verdict.first.part == "forward in training"
    assert "decoder.block.0.layer.1.EncDecAttention" in verdict.first.left
    assert "decoder.block.0.layer.1.EncDecAttention" in verdict.first.right
    assert max(v for part, v in verdict.differences.items() if part == "forward") < 1e-10
