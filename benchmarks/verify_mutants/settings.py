"""Settings of the base models: each field is a choice in which a port may go wrong, or differ harmlessly.

The twins in `torch_side` and `linen_side` read the same settings. A mistake changes a few fields on one
side; a rewrite changes fields that leave what is computed as it is.
"""

from dataclasses import dataclass, field, replace

WIDTH, HEADS, DEPTH, VOCABULARY, POSITIONS, CLASSES = 16, 4, 2, 23, 40, 5
HIDDEN = 24  # of a block's multilayer perceptron


@dataclass(frozen=True)
class Settings:
    """Choices of one model, or of one of its blocks."""

    # Functions
    activation: str = "gelu"  # or gelu_tanh, relu, silu, leaky_relu, tanh, sigmoid, elu, none
    slope: float = 0.01  # of leaky_relu
    missing: frozenset[str] = frozenset()  # parts left out, by the names in the models
    stopped: frozenset[str] = frozenset()  # places where the gradient stops
    gradient_factor: float = 1.0  # of the gradient that flows into the branch of a block
    extra: frozenset[str] = frozenset()  # steps too many, by the names in the models
    order: str = "right"  # of the steps of a layer that has another order, by the model
    # Norms
    norm: str = "layer"  # or rms, batch, group
    epsilon: float = 1e-5
    epsilon_place: str = "inside"  # the root, or outside
    variance: str = "biased"  # by which a norm divides, or unbiased
    norm_axes: str = "features"  # or all: every axis but the batch's
    norm_offset: float = 0.0  # added to the factor
    groups: int = 4  # of a group norm
    group_order: str = "contiguous"  # or strided: channels 0, 4, 8, …
    norm_place: str = (
        "pre"  # or post: after the sum; input: the sum is taken with the norm's result
    )
    momentum: float = 0.1  # weight of the new value in running statistics
    running_variance: str = "unbiased"  # or biased
    statistics: str = "training"  # when batch norm takes those of the batch: never, always
    # Random numbers
    dropout: float = 0.1
    dropouts: frozenset[str] = frozenset({"embedding", "attention", "branch", "head"})
    dropout_scale: bool = True  # survivors are divided by 1 - rate
    dropout_always: bool = False  # in evaluation, too
    dropout_shared: bool = False  # whole channels at a time
    drop_path: float = 0.1
    noise: float = 0.1
    # Attention
    scale: str = "head"  # 1/√(width of a head), or model: 1/√width, none
    causal: int = 0  # tokens ahead that a causal model sees
    window: int = 0  # tokens that it looks back at; 0: all
    mask_value: float = -1e9
    mask: str = "keys"  # or first: the first sample's for all; weights: after the softmax
    softmax_axis: int = -1
    kv_heads: int = HEADS
    kv_order: str = "repeat"  # query head i reads head i // n, or tile: i % n
    head_order: str = "head first"  # or last: feature i belongs to head i % heads
    exchanged: bool = False  # queries and keys
    rope_base: float = 10_000.0
    rope_pairs: str = "half"  # of features that turn together, or interleaved
    rope_share: float = 1.0  # of a head's features
    rope_on: frozenset[str] = frozenset("qk")
    softcap: float = 0.0  # of the attention's scores
    # Positions, embeddings, heads
    first_position: int = 0
    last_position: int = POSITIONS - 1
    embedding_scale: float = 1.0
    frozen_row: int = -1  # of the table, that gets no gradient
    residual_factor: float = 1.0
    pool: str = "first"  # or mean, sum, max, last, masked mean, flatten
    tied: bool = True
    head_scale: float = 1.0
    shared: frozenset[str] = frozenset()  # layers of the first block that all blocks use
    loss: str = "mean"  # or sum, smoothed, unshifted, per sequence
    # Images
    padding: str = "explicit"  # or same: as much as TensorFlow's SAME; valid
    padding_mode: str = "zeros"  # or circular, reflect
    stride_offset: int = 0
    dilation: int = 1
    ceil: bool = False
    count_padding: bool = True
    image_pool: str = "max"  # or average
    pool_padding: str = "lowest"  # what a max pool pads with, or zero
    resize: str = "bilinear"  # or nearest, aligned, corner: no half pixels, cubic
    crop: int = 0  # where a transposed convolution's result is cut
    # Recurrent
    forget: float = 0.0  # added to the forget gate
    carry: float = 0.0  # initial
    direction: str = "forward"  # or backward
    output: str = "hidden"  # or cell
    gates: str = "right"  # or exchanged
    reset: str = "after"  # the product with the hidden state, or before
    # Ways of writing that change no result
    qkv: str = "separate"  # or fused, interleaved, heads: an axis of its own for heads
    gate_up: str = "separate"  # or fused
    attention: str = "plain"  # or library, transposed, masked by a sum
    norm_style: str = "library"  # or manual, fast: E[x²] - E[x]²
    dense_style: str = "library"  # or einsum, conv, weight norm
    lookup: str = "rows"  # or one_hot
    layout: str = "channels first"  # or last: of an image that is flattened
    stacked: bool = False  # blocks run in a scan, with parameters stacked; so do steps of time
    remat: bool = False
    definition: str = "as used"  # or reversed
    formula: str = "library"  # or manual: of softmax, losses, gates
    shapes: str = "flat"  # or unit: parameters with additional axes of size 1
    unused: bool = False  # a layer that nothing uses
    cell: str = "manual"  # or library: its own LSTM, GRU; apart: a product for each gate
    constants: str = "computed"  # or buffer: kept with the parameters
    float32: bool = False  # forced inside


@dataclass(frozen=True)
class Plan:
    """Settings of a model: those of its blocks may differ."""

    right: Settings
    changes: dict[str, object] = field(default_factory=dict)
    at: int | None = None  # the block that has the changes; None: all of the model

    @property
    def whole(self) -> Settings:
        """Settings of what is outside the blocks."""
        return replace(self.right, **self.changes) if self.at is None else self.right

    def block(self, index: int) -> Settings:
        """Settings of a block."""
        return replace(self.right, **self.changes) if self.at in (None, index) else self.right
