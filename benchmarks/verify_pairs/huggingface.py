"""Every architecture of which transformers 4.53.3 has a torch and a Flax class, in a tiny configuration.

That version is the last with Flax models. It is no dependency; it is taken from a folder on PYTHONPATH:

    pip install --no-deps --target FOLDER "transformers==4.53.3" "tokenizers>=0.21,<0.22" \
        "huggingface-hub<1" safetensors regex requests filelock tqdm

`make_torch` and `make_flax` are factories for `pipeline.verify`, `make_inputs` gives its inputs.
"""

from typing import Any

import numpy as np

from benchmarks.verify_pairs.cases import CASES, Case
from benchmarks.verify_pairs.inputs import KINDS


def make_torch(case: str) -> Any:
    """Return the torch model of a case."""
    import transformers

    found = find(case)
    model: Any = getattr(transformers, found.name)
    return model(config=_config(found))


def make_flax(case: str) -> Any:
    """Return the Flax model of a case, with its parameters."""
    import transformers

    _repair_clip()
    found = find(case)
    model: Any = getattr(transformers, found.flax or f"Flax{found.name}")
    return model(_config(found))


def make_inputs(case: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Return inputs for both models of a case."""
    return KINDS[find(case).inputs](np.random.default_rng(seed))


def find(key: str) -> Case:
    """Return a case by its name."""
    return next(case for case in CASES if case.key == key)


def _config(case: Case) -> Any:
    import transformers

    kind: Any = getattr(transformers, case.config)
    if "parts" not in case.options:
        return kind(**case.options)
    options = dict(case.options)
    one, two = [getattr(transformers, name)(**given) for name, given in options.pop("parts")]
    if case.config == "VisionTextDualEncoderConfig":
        return kind.from_vision_text_configs(one, two, **options)
    return kind.from_encoder_decoder_configs(one, two, **options)


def _repair_clip() -> None:
    """Accept `jnp.clip(…, a_max=)` again, which T5 uses and which newer versions of JAX call `max`."""
    import jax.numpy as jnp

    if getattr(jnp.clip, "is_repaired", False):
        return
    clip = jnp.clip

    def repaired(
        arr: Any = None, *args: Any, a_min: Any = None, a_max: Any = None, **more: Any
    ) -> Any:
        given = {key: value for key, value in (("min", a_min), ("max", a_max)) if value is not None}
        return clip(arr, *args, **given, **more)

    repaired.is_repaired = True
    jnp.clip = repaired
