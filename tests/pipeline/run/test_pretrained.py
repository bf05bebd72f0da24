"""Weights of a file in place of the values at step 0: strict, or all but what is to be skipped."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipeline.errors import UserError
from pipeline.run.start.misfit import unknown_pattern
from pipeline.run.start.pretrained import start_from, weights_of
from pipeline.storage.portable_state import PortableState
from pipeline.storage.signature import signature
from pipeline.verify.names.names_file import read_names


def start():
    """Values at step 0 of a small model."""
    parameters = {
        "conv.weight": np.zeros((2, 3)),
        "fc.weight": np.zeros((4, 2)),
        "fc.bias": np.zeros(4),
    }
    return PortableState(0, parameters, {"bn.running_mean": np.zeros(2)})


def weights(**changes):
    """Arrays of a file that fits, but for the changes; None leaves one out."""
    made = {"conv.weight": np.ones((2, 3)), "fc.weight": np.ones((4, 2)), "fc.bias": np.ones(4)}
    made |= {"bn.running_mean": np.full(2, 3.0)}
    made |= {name.replace("__", "."): array for name, array in changes.items()}
    return {name: array for name, array in made.items() if array is not None}


def test_all_values_are_those_of_the_file_also_under_a_prefix(configure):
    for prefix in ("", "model.", "module.net."):
        named = {prefix + name: array for name, array in weights().items()}
        found = start_from(start(), named, configure("model.weights=there.pt"))
        assert all((array == 1).all() for array in found.parameters.values())
        assert found.buffers["bn.running_mean"].tolist() == [3, 3]


def test_a_new_head_keeps_its_own_values(configure):
    config = configure("model.weights=there.pt model.weights_skip=[fc.*]")
    found = start_from(start(), weights(fc__weight=np.ones((9, 2)), fc__bias=None), config)
    assert {name: array.flat[0] for name, array in found.parameters.items()} == {
        "conv.weight": 1, "fc.weight": 0, "fc.bias": 0,
    }  # fmt: skip
    assert found.parameters["fc.weight"].shape == (4, 2)


def test_without_statistics_in_the_file_they_start_as_ever(configure):
    found = start_from(start(), weights(bn__running_mean=None), configure("model.weights=there.pt"))
    assert found.buffers["bn.running_mean"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"fc__bias": None}, r"it lacks fc\.bias \[4\]\..* model\.weights_skip=\[fc\.\*\]"),
        ({"fc__weight": np.ones((9, 2))}, r"fc\.weight is \[9, 2\], in the model \[4, 2\]"),
        ({"aux__weight": np.ones(1)}, r"the model has no aux\.weight.*weights_skip=\[aux\.\*\]"),
    ],
    ids=["missing", "another shape", "more"],
)
def test_weights_that_do_not_fit_are_refused_with_their_names_and_shapes(
    configure, changes, problem
):
    with pytest.raises(UserError, match=problem):
        start_from(start(), weights(**changes), configure("model.weights=there.pt"))


@pytest.mark.parametrize(
    ("pattern", "ending"),
    [
        ("head.*", "no parameter has such a name; the model has conv, fc, bn."),
        ("fc", "the model has conv, fc, bn. Did you mean fc.*?"),
        ("cnv.*", "the model has conv, fc, bn. Did you mean conv.*?"),
        ("fc.wieght", "the model has conv, fc, bn. Did you mean fc.weight?"),
    ],
)
def test_a_pattern_without_a_parameter_is_refused_with_each_layer_once(configure, pattern, ending):
    config = configure(f"model.weights=there.pt model.weights_skip=[{pattern}]")
    with pytest.raises(UserError) as refused:
        start_from(start(), weights(), config)
    assert str(refused.value).startswith(f"model.weights_skip={pattern}: no parameter")
    assert str(refused.value).endswith(ending)


def test_layers_inside_of_a_single_one_are_shown_and_many_are_cut_short():
    found = str(unknown_pattern("x", ["net.a.weight", "net.b.0.weight", "net.b.1.weight"]))
    assert "the model has net.a, net.b." in found
    found = str(unknown_pattern("x", [f"{index}.weight" for index in range(40)]))
    assert "the model has 0, 1, 2" in found
    assert "12, 13, …, 39." in found


def resnet(side, classes=3, depth=2, width=64):
    """Some of a residual network's values."""
    found = {"conv1.weight": np.zeros((width, 3, side, side)), "bn1.weight": np.zeros(width)}
    for stage in range(1, 5):
        for conv in range(1, depth + 1):
            found[f"layer{stage}.0.conv{conv}.weight"] = np.zeros((width, width, 5 - depth, 1))
    return found | {"fc.weight": np.zeros((classes, 8)), "fc.bias": np.zeros(classes)}


@pytest.mark.parametrize(
    ("own", "given", "skip", "ending"),
    [
        (
            ("cifar", 3), 7, "",
            "Set model.stem=imagenet, which gives conv1.weight the file's shape. To start the rest by "
            "model.init, set model.weights_skip=[fc.*].",
        ),
        (
            ("cifar", 3), 7, "fc.*",
            "Set model.stem=imagenet, which gives conv1.weight the file's shape.",
        ),
        (("imagenet", 7), 3, "fc.*", "Set model.stem=cifar, which gives conv1.weight the file's shape."),
        (("cifar", 3), 5, "fc.*", "set model.weights_skip=[fc.*,conv1.*]."),
    ],
)  # fmt: skip
def test_another_stem_is_named_and_what_is_skipped_already_is_kept(
    configure, own, given, skip, ending
):
    stem, side = own
    config = configure(
        f"model=resnet18 model.stem={stem} model.weights=there.pt model.weights_skip=[{skip}]"
    )
    with pytest.raises(UserError) as refused:
        start_from(PortableState(0, resnet(side), {}), resnet(given, 1000), config)
    assert str(refused.value).endswith(ending)
    assert ("To start" in str(refused.value)) == ("weights_skip" in ending)


def test_the_weights_of_another_model_are_told_by_their_count(configure):
    config = configure("model=resnet50 model.weights=there.pt")
    with pytest.raises(UserError) as refused:
        start_from(PortableState(0, resnet(3, depth=3), {}), resnet(3), config)
    assert str(refused.value) == (
        "model.weights=there.pt: it does not fit in 12 of 16 parameters: it lacks layer1.0.conv3.weight "
        "[64, 64, 2, 1], layer2.0.conv3.weight [64, 64, 2, 1] and 2 more; layer1.0.conv1.weight is "
        "[64, 64, 3, 1], in the model [64, 64, 2, 1], layer1.0.conv2.weight is [64, 64, 3, 1], in the model "
        "[64, 64, 2, 1] and 6 more. It looks like the weights of another model."
    )


def test_a_folder_that_is_no_run_is_refused_and_a_newer_result_changes_the_signature(
    configure, tmp_path
):
    config = configure(f"model.weights={tmp_path}")
    with pytest.raises(UserError, match="this folder is no run, and holds no weights"):
        weights_of(config)
    (tmp_path / "result.json").write_text("{}")
    first = signature(config)
    (tmp_path / "result.json").write_text('{"steps": 9}')
    assert signature(config) != first


def test_the_content_of_the_file_is_part_of_the_signature(configure, tmp_path):
    config = configure(f"model.weights={tmp_path}/a.safetensors")
    with pytest.raises(
        UserError, match=r"no such file or folder\. Name a file .*, or the folder of a"
    ):
        weights_of(config)
    (tmp_path / "views").mkdir()
    with pytest.raises(UserError, match=rf"folder\. Did you mean {tmp_path}/views\? Name a file"):
        weights_of(configure(f"model.weights={tmp_path}/view"))
    signatures = set()
    for value in (0.0, 1.0):
        save_file({"a": np.full(2, value, np.float16)}, tmp_path / "a.safetensors")
        assert weights_of(config)["a"].tolist() == [value, value]
        signatures.add(signature(config))
    assert len(signatures) == 2


ROWS = """\
- {left: conv.weight, right: body.kernel, transform: "transpose(1, 0)"}
- {left: "fc.weight[0:2]", right: top.kernel}
- {left: "fc.weight[2:4]", right: rest.kernel}
- {left: fc.bias, right: top.bias}
"""


def test_a_file_with_the_names_of_the_other_side_comes_in_through_the_names(configure, tmp_path):
    path = tmp_path / "names.yaml"
    path.write_text(ROWS)
    names, config = read_names(path, "model.names"), configure("model.weights=there.msgpack")
    theirs = {
        "net.body.kernel": np.arange(6.0).reshape(3, 2),
        "net.top.kernel": np.zeros((2, 2)),
        "net.rest.kernel": np.ones((2, 2)),
        "net.top.bias": np.ones(4),
    }
    found = start_from(start(), theirs, config, names).parameters
    assert found["conv.weight"].tolist() == [[0, 2, 4], [1, 3, 5]]
    assert found["fc.weight"].tolist() == [[0, 0], [0, 0], [1, 1], [1, 1]]
    # The model's own names need none.
    assert (start_from(start(), weights(), config, names).parameters["fc.bias"] == 1).all()
    theirs["net.body.kernel"] = np.ones((5, 2))
    with pytest.raises(UserError, match=r"conv\.weight is \[5, 2\], in the model \[2, 3\]"):
        start_from(start(), theirs, config, names)
    del theirs["net.rest.kernel"]
    with pytest.raises(UserError, match=r"it lacks fc\.weight \[4, 2\]"):
        start_from(start(), theirs, config, names)


def test_what_is_missing_is_suggested_among_what_is_left_over_and_ties_are_none(configure):
    config = configure("model=own model.torch=here:Net model.weights=there.pt")
    other = weights(fc__bias=None, fc__offset_bias=np.ones(4), tied__weight=np.ones((2, 3)))
    with pytest.raises(UserError) as refused:
        start_from(start(), other, config)
    assert str(refused.value).startswith(
        "model.weights=there.pt: it does not fit: it lacks fc.bias [4] (is it fc.offset_bias?); "
        "the model has no fc.offset_bias [4] (is it fc.bias?). Other names of the same arrays belong into "
        "model.names=FILE. To start these"
    )
    pair = configure("model=own model.torch=here:Net model.jax=there:Net model.weights=there.pt")
    with pytest.raises(UserError, match=r"belong into model\.names=auto\."):
        start_from(start(), other, pair)
    turned = weights(conv__weight=np.ones((3, 2)))
    with pytest.raises(UserError, match=r"\[3, 2\], in the model \[2, 3\] \(transposed\)"):
        start_from(start(), turned, config)


def test_patterns_to_skip_are_of_layers_and_never_of_all(configure):
    begun = start()
    parameters = {"scale": np.zeros(1), "0.bias": np.zeros(1), "h.0.fc.bias": np.zeros(1)}
    parameters |= {"h.1.fc.bias": np.zeros(1)} | begun.parameters
    begun = PortableState(0, parameters, begun.buffers)
    config = configure("model.weights=there.pt")
    with pytest.raises(UserError, match=r"weights_skip=\[scale,0\.\*,h\.\*\.fc\.\*\]\.$"):
        start_from(begun, weights(), config)
    with pytest.raises(UserError, match=r"None of its names is the model's"):
        start_from(begun, {"other.weight": np.ones(3)}, config)
