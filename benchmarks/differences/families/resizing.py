"""Resizing of images [N, H, W]; torch's functions are given a channel in between."""

from benchmarks.differences.draws import normal
from benchmarks.differences.plays.values import value
from benchmarks.differences.row import Row

X = {"x": normal((2, 7, 6))}


def resize(
    key: str,
    title: str,
    torch: str,
    method: str,
    size: tuple[int, int],
    closed: str = "",
    side: str = "",
) -> Row:
    """Make the row of a resize to `size`; `closed` follows the arguments of JAX's, `side` torch's."""
    height, width = size
    return Row(
        key=key, title=title,
        torch=f"F.interpolate(x[:, None], ({height}, {width}), mode={torch})[:, 0]",
        jax=f"jax.image.resize(x, (2, {height}, {width}), '{method}')",
        closed=closed,
        torch_closed=f"F.interpolate(x[:, None], ({height}, {width}), mode={side})[:, 0]" if side else "",
        inputs=X, play=value, seeds=(0,),
    )  # fmt: skip


UP, DOWN = (14, 9), (4, 3)
ALIGNED = (
    "jax.image.scale_and_translate(x, (2, 14, 9), (1, 2), jnp.array([13 / 6, 8 / 5]), "
    "0.5 - 0.5 * jnp.array([13 / 6, 8 / 5]), 'linear', antialias=False)"
)
ROWS = [
    resize("resize-nearest", "Nearest neighbour, larger", "'nearest'", "nearest", UP,
           side="'nearest-exact'"),
    resize("resize-nearest-down", "Nearest neighbour, smaller", "'nearest'", "nearest", DOWN,
           side="'nearest-exact'"),
    resize("resize-linear", "Bilinear, larger", "'bilinear'", "linear", UP),
    resize("resize-linear-antialias", "Bilinear, smaller: antialiasing", "'bilinear'", "linear", DOWN,
           "antialias=False"),
    resize("resize-linear-antialiased", "Bilinear, smaller, both antialiased",
           "'bilinear', antialias=True", "linear", DOWN),
    resize("resize-align-corners", "Bilinear, larger: corners aligned",
           "'bilinear', align_corners=True", "linear", UP, ALIGNED),
    resize("resize-cubic", "Bicubic, larger: a = −0.75 or −0.5", "'bicubic'", "cubic", UP,
           side="'bicubic', antialias=True"),
    resize("resize-cubic-antialias", "Bicubic, smaller: antialiasing", "'bicubic'", "cubic", DOWN,
           side="'bicubic', antialias=True"),
]  # fmt: skip
