"""Evaluation of a JAX function in float64 throughout, without random numbers: one primitive at a time."""

import re
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from flax_impl.device import PyTree
from flax_impl.verify.primitives.loops import retrace, scan_counts
from flax_impl.verify.primitives.origin import layer_of
from flax_impl.verify.primitives.precision import NARROW, bind, has_float32, lifted, wide
from flax_impl.verify.primitives.value import Value, is_traced
from pipeline.verify.sides.subject import MIDDLE
from pipeline.verify.trace.constants import nudged

# Primitives that hold a function which is evaluated in their place, by the name of the argument.
CALLS = {
    "jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr",
    "remat": "jaxpr", "remat2": "jaxpr", "checkpoint": "jaxpr", "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr", "custom_vjp_call_jaxpr": "fun_jaxpr",
}  # fmt: skip
CUSTOM = {"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}
# Functions of jax.random that draw: kind, and the value that takes the place of every number. A mask of
# ones keeps all, so that dropout scales by 1 / (1 - rate): its rate and place show in the results.
RANDOM = {
    "_bernoulli": ("bernoulli", 1.0), "_uniform": ("uniform", 0.5), "_normal": ("normal", 1.0),
    "_normal_real": ("normal", 1.0), "_truncated_normal": ("normal", 1.0),
    # A Gumbel number is -log of an exponential one.
    "_exponential": ("exponential", 1.0), "_gumbel": ("exponential", 0.0),
}  # fmt: skip
OTHER_RANDOM = ("random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform")
MOST_ITERATIONS = 512  # of a scan that is evaluated iteration by iteration


class Neutral:
    """Evaluates a jaxpr in float64, with constants in place of random numbers."""

    def __init__(self, nudge: float = 0.0, uniform: float = MIDDLE, root: str = "") -> None:
        """Take `root`, the scope around those of all layers; for the others see `Subject.vary`."""
        self.nudge, self.uniform, self.root = nudge, uniform, root
        self.functions: list[str] = []  # being evaluated, by their names, innermost last
        self.bound: PyTree = 0.5  # second operand of the last comparison

    def evaluate(
        self, jaxpr: Jaxpr, consts: Sequence[Value], args: Sequence[Value], layer: str = ""
    ) -> list[Value]:
        """Evaluate a function; `layer` is the module that calls it."""
        env: dict[Any, Value] = {}

        def read(atom: Any) -> Value:
            if isinstance(atom, Literal):
                return self.constants([atom.val])[0]
            return env[atom]

        env.update(zip(jaxpr.constvars, consts, strict=True))
        env.update(zip(jaxpr.invars, args, strict=True))
        for eqn in jaxpr.eqns:
            results = self._equation(eqn, [read(atom) for atom in eqn.invars], layer)
            env.update(zip(eqn.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, eqn: JaxprEqn, args: list[Value], layer: str) -> list[Value]:
        name = eqn.primitive.name
        layer = layer_of(layer, str(eqn.source_info.name_stack), self.root)
        if name in CALLS:
            function = str(eqn.params.get("name", ""))
            if function in RANDOM and _draws(eqn):
                return self.draw(eqn, function, args, layer)
            inner: Any = eqn.params[CALLS[name]]
            if name not in CUSTOM or not is_traced(args) or has_float32(inner):
                self.functions.append(function)
                results = self.closed(inner, args, layer)
                self.functions.pop()
                return results
        if name in ("scan", "while", "cond"):
            results = self._control(eqn, args, layer)
            if results is not None:
                return results
        if name == "lt":
            self.bound = args[1].array
        return self.operate(eqn, args, layer)

    def operate(self, eqn: JaxprEqn, args: list[Value], layer: str) -> list[Value]:
        """Evaluate a primitive without a function of its own."""
        return [Value(out) for out in bind(eqn, [arg.array for arg in args], {})]

    def draw(self, eqn: JaxprEqn, function: str, args: list[Value], layer: str) -> list[Value]:
        """Return constants in place of random numbers."""
        kind, constant = RANDOM[function]
        constant = self.uniform if kind == "uniform" else constant
        drawn: Any = eqn.outvars[0].aval
        return [Value(jnp.full(drawn.shape, constant, wide(drawn.dtype)))]

    def row(self, value: Value, index: int) -> Value:
        """Return a row of an operand of a scan."""
        return Value(value.array[index])

    def stack(self, rows: list[Value], eqn: JaxprEqn, layer: str) -> Value:
        """Return the rows of a result of a scan as one."""
        return Value((jnp if is_traced(rows) else np).stack([value.array for value in rows]))

    def _control(self, eqn: JaxprEqn, args: list[Value], layer: str) -> list[Value] | None:
        """Evaluate a loop or a branch; None if JAX may do it as it stands."""
        name, traced = eqn.primitive.name, is_traced(args)
        if name == "cond" and not is_traced(args[:1]):
            branches = eqn.params["branches"]
            chosen = int(np.clip(int(args[0].array), 0, len(branches) - 1))
            return self.closed(branches[chosen], args[1:], layer)
        if name == "scan" and not traced and eqn.params["length"] <= MOST_ITERATIONS:
            return self._scan(eqn, args, layer)
        if name == "while" and not traced:
            return self._while(eqn, args, layer)
        if not has_float32(eqn.params) and not _draws(eqn):
            return None
        inner = Neutral(self.nudge, self.uniform)

        def evaluate(jaxpr: Any, arrays: Sequence[PyTree]) -> list[PyTree]:
            return [v.array for v in inner.closed(jaxpr, [Value(a) for a in arrays], layer)]

        return [Value(out) for out in retrace(eqn, [arg.array for arg in args], evaluate)]

    def _while(self, eqn: JaxprEqn, args: list[Value], layer: str) -> list[Value]:
        p = eqn.params
        test, body = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
        carry = args[body:]
        while bool(self.closed(p["cond_jaxpr"], [*args[:test], *carry], layer)[0].array):
            carry = self.closed(p["body_jaxpr"], [*args[test:body], *carry], layer)
        return carry

    def closed(self, inner: Any, args: list[Value], layer: str) -> list[Value]:
        """Evaluate a function, with its constants if it has any."""
        if isinstance(inner, ClosedJaxpr):
            return self.evaluate(inner.jaxpr, self.constants(inner.consts), args, layer)
        return self.evaluate(inner, [], args, layer)

    def constants(self, consts: Sequence[PyTree]) -> list[Value]:
        """Return the constants of a function in float64; but for single numbers they are nudged."""
        found = []
        for const in consts:
            value, dtype = Value(lifted(const)), getattr(const, "dtype", None)
            if dtype in NARROW and np.ndim(const):
                value = Value(nudged(value.array, self.nudge), dtype=str(dtype))
            found.append(value)
        return found

    def _scan(self, eqn: JaxprEqn, args: list[Value], layer: str) -> list[Value]:
        """Evaluate a scan iteration by iteration, so that stacked layers are told apart."""
        p = eqn.params
        fixed, count = scan_counts(p)
        consts, carry, stacked = args[:fixed], args[fixed : fixed + count], args[fixed + count :]
        rows: list[list[Value]] = [[] for _ in eqn.outvars[count:]]
        order = range(p["length"])
        for index in reversed(order) if p["reverse"] else order:
            slices = [self.row(value, index) for value in stacked]
            outs = self.closed(p["jaxpr"], [*consts, *carry, *slices], layer)
            carry = outs[:count]
            for row, out in zip(rows, outs[count:], strict=True):
                row.append(out)
        results = []
        for row in rows:
            results.append(self.stack(row[::-1] if p["reverse"] else row, eqn, layer))
        return [*carry, *results]


def _draws(eqn: JaxprEqn) -> bool:
    return bool(re.search("random|threefry", str(eqn.params)))
