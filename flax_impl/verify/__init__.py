"""Models of JAX under check, for `pipeline.verify`."""

import jax

from flax_impl.verify import linen
from flax_impl.verify.subject import FunctionSubject


def prepare(threads):
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")


def open_subject(made, inputs, keywords, layouts):
    return FunctionSubject(linen.adapt(made, inputs, keywords))
