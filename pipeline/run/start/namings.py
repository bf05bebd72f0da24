"""Names that other packages give to the parameters of a model, as rows of names files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np

from pipeline.storage.portable_state import Arrays, Shapes
from pipeline.storage.weights_file import prefixes
from pipeline.verify.names.notation import Block, Shape, Transform
from pipeline.verify.names.rows import Row, parse_row

Part = tuple[Block, Block, Transform]  # of a canonical array, of a file's, and from left to right
TURNED = "transpose(1, 0)"
THIRDS = ("query", "key", "value")  # of a matrix of all three, in this order


@dataclass(frozen=True)
class Translation:
    """Arrays by the canonical names of a model, as far as it has them; `source` says whose names they had."""

    arrays: Arrays
    source: str = ""


@dataclass(frozen=True)
class Naming:
    """The names of a package for a model.

    Rows are `(theirs, ours)`: `#` stands for a number, `{query}` for each third of a matrix that has all
    three. `turned` are the patterns of their matrices `[in, out]`, `unused` those of arrays for which the
    model has no place, and `summed` pairs of which the first is to be added to the second.
    """

    source: str
    rows: tuple[tuple[str, str], ...]
    turned: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    summed: tuple[tuple[str, str], ...] = ()


NORMS_AND_MLP = (("ln_1", "norm1"), ("ln_2", "norm2"), ("mlp.0", "mlp.fc1"), ("mlp.3", "mlp.fc2"))
HF_LAYER = "encoder.layer.#."

NAMINGS: dict[str, tuple[Naming, ...]] = {
    "vit": (
        Naming(
            "a vision transformer of torchvision",
            (
                ("class_token", "cls_token"),
                ("encoder.pos_embedding", "pos_embed"),
                ("conv_proj.*", "patch_embed.proj.*"),
                *(
                    (f"encoder.layers.encoder_layer_#.{theirs}.*", f"blocks.#.{ours}.*")
                    for theirs, ours in (
                        *NORMS_AND_MLP,
                        ("self_attention.out_proj", "attn.proj"),
                    )
                ),
                (
                    "encoder.layers.encoder_layer_#.self_attention.in_proj_weight",
                    "blocks.#.attn.qkv.weight",
                ),
                (
                    "encoder.layers.encoder_layer_#.self_attention.in_proj_bias",
                    "blocks.#.attn.qkv.bias",
                ),
                ("encoder.ln.*", "norm.*"),
                ("heads.head.*", "head.*"),
            ),
        ),
        Naming(
            "a ViT of Hugging Face",
            (
                ("embeddings.cls_token", "cls_token"),
                ("embeddings.position_embeddings", "pos_embed"),
                ("embeddings.patch_embeddings.projection.*", "patch_embed.proj.*"),
                (HF_LAYER + "attention.attention.{query}.*", "blocks.#.attn.qkv.*"),
                (HF_LAYER + "attention.output.dense.*", "blocks.#.attn.proj.*"),
                (HF_LAYER + "intermediate.dense.*", "blocks.#.mlp.fc1.*"),
                (HF_LAYER + "output.dense.*", "blocks.#.mlp.fc2.*"),
                (HF_LAYER + "layernorm_before.*", "blocks.#.norm1.*"),
                (HF_LAYER + "layernorm_after.*", "blocks.#.norm2.*"),
                ("layernorm.*", "norm.*"),
                ("classifier.*", "head.*"),
            ),
            unused=("pooler.*",),
        ),
    ),
    "gpt": (
        Naming(
            "a GPT-2 of Hugging Face",
            (
                *((f"{n}.*", f"{n}.*") for n in ("wte", "wpe", "ln_f", "h.#.ln_1", "h.#.ln_2")),
                *(
                    (f"h.#.{n}.*", f"h.#.{n}.*")
                    for n in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
                ),
            ),
            turned=("h.*.c_*.weight",),
            unused=("h.*.attn.bias", "h.*.attn.masked_bias"),  # the causal mask
        ),
    ),
    "bert": (
        Naming(
            "a BERT of Hugging Face",
            (
                ("embeddings.word_embeddings.*", "wte.*"),
                ("embeddings.position_embeddings.*", "wpe.*"),
                ("embeddings.LayerNorm.*", "ln_e.*"),
                (HF_LAYER + "attention.self.{query}.*", "h.#.attn.c_attn.*"),
                (HF_LAYER + "attention.output.dense.*", "h.#.attn.c_proj.*"),
                (HF_LAYER + "attention.output.LayerNorm.*", "h.#.ln_1.*"),
                (HF_LAYER + "intermediate.dense.*", "h.#.mlp.c_fc.*"),
                (HF_LAYER + "output.dense.*", "h.#.mlp.c_proj.*"),
                (HF_LAYER + "output.LayerNorm.*", "h.#.ln_2.*"),
                ("cls.predictions.bias", "head.bias"),
                ("cls.predictions.transform.dense.*", "head.dense.*"),
                ("cls.predictions.transform.LayerNorm.*", "head.norm.*"),
            ),
            unused=("pooler.*", "cls.seq_relationship.*", "*.position_ids"),
            # All tokens are of the first segment.
            summed=(
                (
                    "embeddings.token_type_embeddings.weight",
                    "embeddings.position_embeddings.weight",
                ),
            ),
        ),
    ),
}


def published(model: str, weights: Arrays, shapes: Shapes) -> list[Translation]:
    """Return a file's arrays for a built-in model, once for each package whose names they have."""
    found = (_translated_as(naming, weights, shapes) for naming in NAMINGS.get(model, ()))
    return [translation for translation in found if translation]


def translated(
    rows: Sequence[Row], weights: Arrays, shapes: Shapes, is_left: bool | None = None
) -> Translation:
    """Return a file's arrays by canonical names, if they have the names of the other side of rows.

    An array that does not fit its row keeps its shape; one without a row, or whose other parts are not in
    the file, its name. `shapes` are those of the model by canonical name. `is_left` tells if the left names
    are the canonical ones; None: if more of them are.
    """
    parsed = [parse_row(number, row) for number, row in enumerate(rows)]
    if is_left is None:
        is_left = sum(r.left.name in shapes for r in parsed) >= sum(
            r.right.name in shapes for r in parsed
        )
    pairs = [(row.left, row.right) if is_left else (row.right, row.left) for row in parsed]
    ours, theirs = prefixes([other.name for _, other in pairs], weights)
    named = {ours + name.removeprefix(theirs): array for name, array in weights.items()}
    groups: dict[str, list[Part]] = {}
    for (canonical, other), row in zip(pairs, parsed, strict=True):
        groups.setdefault(canonical.name, []).append((canonical, other, row.transform))
    found, used = {}, set()
    for name, parts in groups.items():
        others = {other.name for _, other, _ in parts}
        if name not in shapes or not others <= named.keys():
            continue
        array = _joined(parts, named, shapes[name], is_left)
        if array is None and len(others) == 1:  # of another shape, which the message tells
            array = named[next(iter(others))]
        if array is not None:
            found[name] = array
            used |= others
    return Translation({n: array for n, array in named.items() if n not in used} | found)


def _joined(parts: Sequence[Part], named: Arrays, shape: Shape, is_left: bool) -> np.ndarray | None:
    """Return the canonical array that parts make; None if they do not fit."""
    array = np.zeros(shape, named[parts[0][1].name].dtype)
    is_filled = np.zeros(shape, bool)
    try:
        for canonical, other, transform in parts:
            values = other.read(named[other.name])
            back = transform.inverse(canonical.read(array).shape) if is_left else transform
            values = back.apply(values)
            if values.shape != canonical.read(array).shape:
                return None
            canonical.write(array, values)
            canonical.write(is_filled, np.ones(values.shape, bool))
    except (ValueError, IndexError):
        return None
    return array if is_filled.all() else None


def _translated_as(naming: Naming, weights: Arrays, shapes: Shapes) -> Translation | None:
    arrays = _without_prefixes(naming, weights)
    for addend, target in naming.summed:
        if addend in arrays and target in arrays:
            arrays[target] = arrays[target] + arrays.pop(addend)[0]
    rows = [row for theirs, ours in naming.rows for row in _rows(naming, theirs, ours, shapes)]
    if not any(row.left in arrays for row in rows):
        return None
    used = {name: array for name, array in arrays.items() if not _fits(name, naming.unused)}
    found = translated(rows, used, shapes, is_left=False)
    return replace(found, source=f"read as {naming.source}, it")


def _without_prefixes(naming: Naming, weights: Arrays) -> Arrays:
    """Return arrays without what stands in front of a package's own names, such as `module.bert.`"""
    starts = tuple({theirs.split("#")[0].split("*")[0] for theirs, _ in naming.rows})
    starts += tuple(pattern.split("*")[0] for pattern in naming.unused if pattern[0] != "*")
    starts += tuple(addend for addend, _ in naming.summed)

    def stripped(name: str) -> str:
        parts = name.split(".")
        tails = (".".join(parts[depth:]) for depth in range(len(parts)))
        return next((tail for tail in tails if tail.startswith(starts)), name)

    return {stripped(name): array for name, array in weights.items()}


def _rows(naming: Naming, theirs: str, ours: str, shapes: Shapes) -> list[Row]:
    """Return the rows of a pattern for the parameters that a model has."""
    pattern = re.escape(ours).replace(r"\#", r"(\d+)").replace(r"\*", "(.+)")
    found = []
    for name, shape in shapes.items():
        if not (match := re.fullmatch(pattern, name)):
            continue
        groups = iter(match.groups())
        filled = re.sub(r"#|\*", lambda _, groups=groups: next(groups), theirs)
        transform = TURNED if len(shape) == 2 and _fits(filled, naming.turned) else ""
        if "{query}" not in filled:
            found.append(Row(filled, name, transform))
            continue
        third = shape[0] // len(THIRDS)
        found += [
            Row(filled.replace("{query}", part), f"{name}[{i * third}:{(i + 1) * third}]")
            for i, part in enumerate(THIRDS)
        ]
    return found


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
