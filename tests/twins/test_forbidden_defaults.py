"""flax_impl never relies on defaults of Flax that differ from torch's; its source is checked."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Row of the specification: calls of Flax's, what they must say, and after how many other arguments.
SAID = {
    "L14 'SAME' is the default padding": (("Conv", "ConvTranspose"), "padding", 3),
    "L18 kernels are not torch's by default": (("ConvTranspose",), "transpose_kernel", 99),
    "L19 pools have a stride of 1 by default": (("max_pool", "avg_pool"), "strides", 2),
    "L8 epsilon is 1e-6 by default": (
        ("LayerNorm", "GroupNorm", "RMSNorm", "InstanceNorm"),
        "epsilon",
        99,
    ),
    "L4 variances cancel by default": (
        ("LayerNorm", "GroupNorm", "RMSNorm", "InstanceNorm"),
        "use_fast_variance",
        99,
    ),
    "L11 there are 32 groups by default": (("GroupNorm",), "num_groups", 0),
    "L13 gelu is approximate by default": (("gelu",), "approximate", 1),
    "L25 heads share a mask by default": (
        ("MultiHeadDotProductAttention", "dot_product_attention"),
        "broadcast_dropout",
        99,
    ),
    "L30 PReLU starts at 0.01 by default": (("PReLU",), "negative_slope_init", 1),
}
# What is not for use at all, and what is instead.
BANNED = {
    "L1 L3 momentum and running variance": ("BatchNorm", "flax_impl.norms.BatchNorm"),
    "L29 masks are not torch's": ("Dropout", "flax_impl.randomness.Dropout"),
    "L30 the slope at 0 is 1": ("leaky_relu", "jnp.where(x > 0, x, slope * x)"),
}


def calls(source):
    """(line, name, positional arguments, keywords) of each call on flax.linen, as `nn` or `linen`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id in ("nn", "linen"):
                keywords = {keyword.arg for keyword in node.keywords}
                yield node.lineno, node.func.attr, len(node.args), keywords


def faults(source):
    """(line, row) of each place where a source relies on a default of Flax."""
    for line, name, positional, keywords in calls(source):
        for row, (names, argument, before) in SAID.items():
            if name in names and argument not in keywords and positional <= before:
                yield line, row
        yield from ((line, row) for row, (banned, _) in BANNED.items() if name == banned)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and node.value in ("SAME", "SAME_LOWER"):
            yield node.lineno, "L14 'SAME' is uneven"


SOURCES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "flax_impl").rglob("*.py"))


@pytest.mark.parametrize("name", SOURCES)
def test_no_default_of_flax_that_differs_from_torchs_is_relied_on(name):
    assert list(faults((ROOT / name).read_text())) == []


@pytest.mark.parametrize(
    ("source", "rows"),
    [
        ("nn.Conv(3, (3, 3))", ["L14"]),
        ("nn.Conv(3, (3, 3), 2, 1)", []),
        ("nn.Conv(3, (3, 3), padding='SAME')", ["L14"]),
        ("nn.Conv(3, (3, 3), padding=1)", []),
        ("nn.ConvTranspose(3, (3, 3), padding=((1, 1), (1, 1)))", ["L18"]),
        ("nn.max_pool(x, (2, 2))", ["L19"]),
        ("nn.max_pool(x, (2, 2), (2, 2))", []),
        ("nn.avg_pool(x, (2, 2), strides=(2, 2))", []),
        ("nn.gelu(x)", ["L13"]),
        ("nn.gelu(x, False)", []),
        ("nn.LayerNorm()", ["L8", "L4"]),
        ("nn.GroupNorm(epsilon=1e-5, use_fast_variance=False)", ["L11"]),
        ("nn.GroupNorm(2, epsilon=1e-5, use_fast_variance=False)", []),
        ("nn.BatchNorm()", ["L1"]),
        ("nn.Dropout(0.5)", ["L29"]),
        ("nn.leaky_relu(x)", ["L30"]),
        ("nn.MultiHeadDotProductAttention(2)", ["L25"]),
        ("{nn.BatchNorm: 1}", []),
    ],
)
def test_reliance_on_a_default_is_detected(source, rows):
    assert [row.split()[0] for _, row in faults(source)] == rows
