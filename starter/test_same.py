"""The two models are the same: outputs, gradients and optimizer steps, in float64."""

import my_models

from tandem import assert_same


def test_the_two_models_are_the_same() -> None:
    assert_same(
        my_models.TorchNet,
        my_models.FlaxNet,
        options={"input_shape": [8, 8, 1], "outputs": 10},
        inputs="x=float32[4,1,8,8] NCHW",
    )
