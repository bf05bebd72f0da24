"""Similarity of names of layers and parameters."""

import re
from collections import Counter

# Words of one meaning, by the one that stands for them.
SYNONYMS = {
    "kernel": "weight", "scale": "weight", "embedding": "weight", "gamma": "weight", "beta": "bias",
    "embeddings": "embed", "wte": "embed", "emb": "embed", "wpe": "position", "pos": "position",
    "positional": "position", "positions": "position", "layernorm": "norm", "ln": "norm", "bn": "norm",
    "batchnorm": "norm", "layer_norm": "norm", "query": "q", "key": "k", "value": "v", "wq": "q", "wk": "k",
    "wv": "v", "wo": "o", "out": "o", "output": "o", "attention": "attn", "self_attention": "attn",
    "dense": "linear", "fc": "linear", "lin": "linear", "layers": "layer", "blocks": "layer",
    "block": "layer",
    "h": "layer", "mean": "running_mean", "var": "running_var", "classifier": "head", "ffn": "mlp",
}  # fmt: skip


def words(name: str) -> list[str]:
    """Split a dotted name into words: `encoder.layers_0.q_proj` → encoder, layer, 0, q, proj."""
    split = re.sub(r"([a-z])([A-Z])", r"\1_\2", name)
    found = re.findall(r"[A-Za-z]+|\d+", split.lower().replace(".", "_"))
    return [SYNONYMS.get(word, word) for word in found]


def similarity(left: str, right: str) -> float:
    """Share of words that two names have in common, from 0 to 1; a number alone says nothing."""
    ours, theirs = Counter(words(left)), Counter(words(right))
    common = ours & theirs
    if all(word.isdigit() for word in common):
        return 0.0
    return 2 * common.total() / (ours.total() + theirs.total())


def pattern(name: str) -> str:
    """Name with its numbers replaced, the same for a layer of every block."""
    return re.sub(r"\d+", "#", name)
