"""Causes that docs/differences.md has measured: what each framework does, and the argument that closes it."""

PAGE = "docs/differences.md"

# The anchor of a row on the page, by the name of a cause.
ROWS = {
    "GELU exact or tanh": "gelu-approximation",
    "negative slope": "leaky-relu-slope",
    "softmax axis": "softmax-axis",
    "padding_idx": "embedding-padding-gradient",
    "dropout rate": "dropout-rate",
    "dropout scale": "dropout-scale",
    "dropout shape": "dropout-channels",
    "padding": "conv-padding",
    "padding mode": "conv-reflect",
    "dilation": "conv-dilation",
    "number of groups": "group-norm-groups",
    "ceil mode": "max-pool-ceil",
    "average pool counts padding": "avg-pool-count-padding",
    "norm epsilon": "layer-norm-epsilon",
    "norm axes": "layer-norm-axes",
    "biased running variance": "batch-norm-running-variance",
    "running statistics momentum": "batch-norm-momentum",
    "running statistics in training": "batch-norm-mode",
    "attention scale": "attention-scale",
    "mask inverted": "attention-mask",
    "interpolation": "resize-linear",
    "align corners": "resize-align-corners",
    "antialiasing": "resize-linear-antialias",
    "biased variance": "variance",
    "loss reduction": "loss-reduction",
    "label smoothing": "label-smoothing",
}


def with_row(name: str, remedy: str) -> str:
    """Add the row of the page that a cause comes from, if it has one, to its remedy."""
    return f"{remedy}; see {PAGE}#{ROWS[name]}" if name in ROWS else remedy
