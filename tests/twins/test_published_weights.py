"""`model.weights` with the names that torchvision and Hugging Face give to our models."""

import sys
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
import torchvision
from asserts import gap
from model_twins import randomised

from flax_impl import models as flax_models
from flax_impl.layout import layout_of
from flax_impl.state import from_canonical
from lightning_impl import models as torch_models
from lightning_impl.state import from_portable, initial_state
from pipeline.errors import UserError
from pipeline.run.start.pretrained import start_from

FOLDER = Path(__file__).resolve().parents[2] / "build" / "huggingface"
if FOLDER.is_dir() and str(FOLDER) not in sys.path:
    sys.path.append(str(FOLDER))

pytestmark = pytest.mark.usefixtures("float64")
needs_transformers = pytest.mark.skipif(
    find_spec("transformers") is None, reason="needs transformers: make huggingface"
)
CLASSES, WORDS, WIDTH = 5, 11, 8
VIT = f"model=vit model.depth=2 model.heads=2 model.width={WIDTH} model.weights=there.pt"


def outputs_of(config, weights, shape, outputs, x):
    """Outputs of our two models that start from the arrays of a file."""
    model = torch_models.build_model(config.model, shape, outputs).double().eval()
    start = start_from(initial_state(model, config), weights, config)
    from_portable(start, model)
    flax = flax_models.build_model(config.model, shape, outputs, dtype=float, param_dtype=float)
    layout = layout_of(flax, jax.ShapeDtypeStruct(x.shape, x.dtype))
    variables = {"params": from_canonical(start.parameters, layout)}
    images = torch.tensor(x).movedim(-1, 1) if x.ndim == 4 else torch.tensor(x)
    with torch.no_grad():
        return model(images).numpy(), np.asarray(jax.jit(flax.apply)(variables, x))


def arrays_of(model, prefix=""):
    """Floats of a torch model by name, as its file has them, in float64."""
    state = randomised(model.double().eval()).state_dict()
    return {prefix + n: a.numpy() for n, a in state.items() if a.is_floating_point()}


def test_a_vision_transformer_of_torchvision_starts_both_models(configure):
    theirs = torchvision.models.VisionTransformer(
        12, 4, 2, 2, WIDTH, 4 * WIDTH, num_classes=CLASSES
    )
    weights = arrays_of(theirs, "module.")
    x = np.random.default_rng(0).normal(size=(2, 12, 12, 3))
    found = outputs_of(configure(VIT), weights, (12, 12, 3), CLASSES, x)
    with torch.no_grad():
        expected = theirs(torch.tensor(x).movedim(-1, 1)).numpy()
    assert max(gap(each, expected) for each in found) < 1e-12
    del weights["module.encoder.ln.bias"]
    with pytest.raises(UserError) as refused:
        outputs_of(configure(VIT), weights, (12, 12, 3), CLASSES, x)
    assert (
        "read as a vision transformer of torchvision, it does not fit: it lacks norm.bias [8]."
        in str(refused.value)
    )


def hugging_face(name):
    """A tiny model of Hugging Face with random weights, and what it takes."""
    import transformers

    small = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": WIDTH}
    small |= {"intermediate_size": 4 * WIDTH}
    random = np.random.default_rng(0)
    if name == "vit":
        config = transformers.ViTConfig(image_size=12, patch_size=4, num_labels=CLASSES, **small)
        config.layer_norm_eps = 1e-6
        model = transformers.ViTForImageClassification(config)
        return model, random.normal(size=(2, 12, 12, 3))
    tokens = random.integers(0, WORDS, (2, 6))
    if name == "gpt":
        sizes = {"n_embd": WIDTH, "n_layer": 2, "n_head": 2, "n_positions": 6}
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(WORDS, **sizes)), tokens
    config = transformers.BertConfig(WORDS, max_position_embeddings=6, **small)
    return transformers.BertForMaskedLM(config), tokens


@needs_transformers
@pytest.mark.parametrize("name", ["vit", "gpt", "bert"])
def test_a_model_of_hugging_face_starts_both_models(configure, name):
    theirs, x = hugging_face(name)
    weights, given = arrays_of(theirs), torch.tensor(x)
    more = " model.activation=gelu" if name == "bert" else ""
    config = configure(VIT.replace("=vit", f"={name}") + more)
    shape, outputs = ((12, 12, 3), CLASSES) if name == "vit" else ((6,), WORDS)
    found = outputs_of(config, weights, shape, outputs, x)
    with torch.no_grad():
        expected = theirs(given.movedim(-1, 1) if name == "vit" else given).logits.numpy()
    assert max(gap(each, expected) for each in found) < 1e-10


def test_kernels_of_gpt2_are_turned_also_square_ones_and_its_masks_left_out(configure):
    config = configure("model=gpt model.depth=1 model.heads=2 model.width=8 model.weights=there.pt")
    model = torch_models.build_model(config.model, (6,), WORDS)
    state = arrays_of(model)
    weights = {
        f"transformer.{name}": array.T if ".c_" in name and array.ndim == 2 else array
        for name, array in state.items()
    }
    weights["transformer.h.0.attn.bias"] = np.tri(6)[None, None]
    weights["lm_head.weight"] = state["wte.weight"].copy()
    start = initial_state(torch_models.build_model(config.model, (6,), WORDS), config)
    found = start_from(start, weights, config).parameters
    assert found.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(found[name], array)
    # nanoGPT has the same names, and torch's own layout.
    plain = {f"_orig_mod.transformer.{name}": array for name, array in state.items()}
    np.testing.assert_array_equal(
        start_from(start, plain, config).parameters["h.0.attn.c_proj.weight"],
        state["h.0.attn.c_proj.weight"],
    )
    # A head of its own is no copy of the embedding.
    weights["lm_head.weight"] += 1
    with pytest.raises(UserError, match=r"the model has no lm_head\.weight \[11, 8\]"):
        start_from(start, weights, config)


def test_a_third_of_attention_that_is_not_in_the_file_is_named(configure):
    config = configure(
        "model=bert model.depth=1 model.heads=2 model.width=8 model.weights=there.pt"
    )
    start = initial_state(torch_models.build_model(config.model, (6,), WORDS), config)
    layer = "bert.encoder.layer.0.attention.self"
    weights = {f"{layer}.query.weight": np.ones((8, 8)), f"{layer}.key.weight": np.ones((8, 8))}
    with pytest.raises(UserError, match=r"as a BERT of Hugging Face, it does not fit|it lacks wte"):
        start_from(start, weights, config)
