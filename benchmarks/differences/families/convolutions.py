"""Convolutions and pools of images, channels last; torch's and Equinox's are given them channels first."""

from benchmarks.differences.draws import normal
from benchmarks.differences.plays.layers import layer
from benchmarks.differences.plays.values import value
from benchmarks.differences.row import Row, flax

Closed = str | dict[str, str]
EVEN = {"x": normal((2, 8, 8, 4))}
BOTH = {"x": normal((2, 8, 8, 4), (2, 7, 7, 4))}
ODD = {"x": normal((2, 7, 7, 4))}
BELOW = {"x": normal((2, 7, 7, 4), mean=-9)}  # so that zeros as padding would win


def conv(key: str, title: str, torch: str, call: str, equinox: str, closed: Closed, x: dict) -> Row:
    """Make the row of a convolution of four channels into six; each argument is what follows those."""
    return Row(
        key=key, title=title, torch=f"nn.Conv2d(4, 6, {torch})", linen=f"linen.Conv(6, {call})",
        nnx=f"nnx.Conv(4, 6, {call}, rngs=rngs)",
        equinox=f"eqx.nn.Conv2d(4, 6, {equinox}, key=key)" if equinox else "",
        closed=closed, inputs=x, play=layer(),
    )  # fmt: skip


def transposed(key: str, title: str, torch: str, call: str, equinox: str, closed: Closed) -> Row:
    """Make the row of a transposed convolution of four channels into six."""
    return Row(
        key=key, title=title, torch=f"nn.ConvTranspose2d(4, 6, {torch})",
        linen=f"linen.ConvTranspose(6, {call})",
        nnx=f"nnx.ConvTranspose(4, 6, {call}, rngs=rngs)",
        equinox=f"eqx.nn.ConvTranspose2d(4, 6, {equinox}, key=key)", closed=closed, inputs=ODD,
        play=layer(), seeds=(0,),
    )  # fmt: skip


def pool(key: str, title: str, torch: str, call: str, equinox: str, closed: Closed, x: dict) -> Row:
    """Make the row of a pool: layers of torch and Equinox, functions of linen and NNX."""
    return Row(
        key=key, title=title, torch=torch, linen=call and f"linen.{call}",
        nnx=call and f"nnx.{call}", equinox=equinox, closed=closed, inputs=x, play=layer(),
    )  # fmt: skip


ROWS = [
    Row(key="conv-kernel", title="Convolution: layout of the kernel",
        torch="F.conv2d(x.permute(0, 3, 1, 2), w).permute(0, 2, 3, 1)",
        linen="linen.Conv(4, (4, 4), padding=0, use_bias=False).apply({'params': {'kernel': w}}, x)",
        closed="linen.Conv(4, (4, 4), padding=0, use_bias=False)"
        ".apply({'params': {'kernel': w.transpose(2, 3, 1, 0)}}, x)",
        inputs={"x": normal((2, 8, 8, 4)), "w": normal((4, 4, 4, 4))}, play=value, seeds=(0,)),
    conv("conv-padding", "Convolution: padding", "3", "(3, 3)", "3", "padding=0", ODD),
    conv("conv-same", "Convolution of odd size: 'same' padding", "3, padding=1", "(3, 3)",
         "3, padding='SAME'", "", BOTH),
    conv("conv-same-even-kernel", "Convolution of even size: 'same' padding", "4, padding='same'",
         "(4, 4), padding='SAME'", "4, padding='SAME'", "", BOTH),
    conv("conv-same-stride", "Convolution with stride 2 of an even image: 'same' padding",
         "3, stride=2, padding=1", "(3, 3), strides=2", "3, stride=2, padding='SAME'",
         "padding=1", EVEN),
    conv("conv-same-stride-odd", "Convolution with stride 2 of an odd image: 'same' padding",
         "3, stride=2, padding=1", "(3, 3), strides=2", "3, stride=2, padding='SAME'", "", ODD),
    conv("conv-groups", "Convolution in groups: order of the channels", "3, groups=2",
         "(3, 3), padding=0, feature_group_count=2", "3, groups=2", "", ODD),
    conv("conv-dilation", "Convolution, dilated", "3, padding=2, dilation=2",
         "(3, 3), padding=2, kernel_dilation=2", "3, padding=2, dilation=2", "", ODD),
    conv("conv-circular", "Convolution: circular padding",
         "3, padding=1, padding_mode='circular'", "(3, 3), padding='CIRCULAR'",
         "3, padding=1, padding_mode='CIRCULAR'", "", ODD),
    conv("conv-reflect", "Convolution: reflecting padding", "3, padding=1, padding_mode='reflect'",
         "(3, 3), padding='REFLECT'", "3, padding=1, padding_mode='REFLECT'", "", ODD),
    transposed("conv-transpose-padding", "Transposed convolution: padding", "3", "(3, 3)",
               "3", flax("transpose_kernel=True, padding='VALID'")),
    transposed("conv-transpose-kernel", "Transposed convolution: the kernel is flipped", "3",
               "(3, 3), padding='VALID'", "3", flax("transpose_kernel=True")),
    transposed("conv-transpose-stride", "Transposed convolution of size 4, stride 2",
               "4, stride=2, padding=1", "(4, 4), strides=(2, 2), transpose_kernel=True",
               "4, stride=2, padding=1", ""),
    transposed("conv-transpose-stride-odd", "Transposed convolution of size 3, stride 2",
               "3, stride=2, padding=1, output_padding=1",
               "(3, 3), strides=(2, 2), transpose_kernel=True",
               "3, stride=2, padding=1, output_padding=1", flax("padding=((1, 2), (1, 2))")),
    pool("max-pool-stride", "Max pool: stride", "nn.MaxPool2d(2)", "max_pool(x, (2, 2))",
         "eqx.nn.MaxPool2d(2)", flax("strides=(2, 2)") | {"equinox": "stride=2"}, EVEN),
    pool("max-pool-padding", "Max pool: what is padded", "nn.MaxPool2d(3, 2, padding=1)",
         "max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))",
         "eqx.nn.MaxPool2d(3, 2, padding=1)", "", BELOW),
    pool("max-pool-same", "Max pool with stride 2 of an even image: 'same' padding",
         "nn.MaxPool2d(3, 2, padding=1)", "max_pool(x, (3, 3), strides=(2, 2), padding='SAME')",
         "", "padding=((1, 1), (1, 1))", EVEN),
    pool("max-pool-ceil", "Max pool of an odd image: the last, incomplete window",
         "nn.MaxPool2d(2, ceil_mode=True)", "max_pool(x, (2, 2), strides=(2, 2))",
         "eqx.nn.MaxPool2d(2, 2)", flax("padding=((0, 1), (0, 1))") | {"equinox": "use_ceil=True"}, ODD),
    pool("avg-pool-stride", "Average pool: stride", "nn.AvgPool2d(2)", "avg_pool(x, (2, 2))",
         "eqx.nn.AvgPool2d(2)", flax("strides=(2, 2)") | {"equinox": "stride=2"}, EVEN),
    pool("avg-pool-count-padding", "Average pool: zeros of the padding count",
         "nn.AvgPool2d(3, 2, padding=1)",
         "avg_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))",
         "eqx.nn.AvgPool2d(3, 2, padding=1)", "", ODD),
    pool("avg-pool-no-padding-counted", "Average pool: zeros of the padding do not count",
         "nn.AvgPool2d(3, 2, padding=1, count_include_pad=False)",
         "avg_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))", "",
         "count_include_pad=False", ODD),
    pool("avg-pool-ceil", "Average pool of an odd image: the last, incomplete window",
         "nn.AvgPool2d(2, ceil_mode=True)", "avg_pool(x, (2, 2), strides=(2, 2))",
         "eqx.nn.AvgPool2d(2, 2)", flax("padding=((0, 1), (0, 1)), count_include_pad=False"), ODD),
    pool("adaptive-pool", "Adaptive average pool to a size that does not divide",
         "nn.AdaptiveAvgPool2d(3)", "", "eqx.nn.AdaptiveAvgPool2d(3)", "", ODD),
    pool("adaptive-pool-divided", "Adaptive average pool to a size that divides",
         "nn.AdaptiveAvgPool2d(4)", "", "eqx.nn.AdaptiveAvgPool2d(4)", "", EVEN),
]  # fmt: skip
