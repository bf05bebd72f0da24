"""Errors about weights that do not fit a model, and the way out of each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.backend_specs import BACKENDS
from pipeline.config.checks.suggestions import nearest
from pipeline.config.experiment import Config
from pipeline.config.models import AUTO_NAMES, ModelConfig, OwnConfig
from pipeline.errors import UserError
from pipeline.storage.portable_state import STATISTICS, Shapes
from pipeline.verify.alignment.names import similarity

KEY = "model.weights"
SKIP = "model.weights_skip"
MAX_NAMED = 4
MAX_NAMED_OF_ANOTHER = 2  # parameters, of the weights of another model
MAX_LAYERS = 16
ALIKE = 0.5  # similarity of names from which one is suggested


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """The differences between the weights of a file and the parameters that a model takes from it."""

    lacking: Shapes  # in the model alone
    other: Mapping[str, tuple[Sequence[int], Sequence[int]]]  # the file's shape and the model's
    more: Shapes  # in the file alone
    wanted: int  # parameters that are to come from the file, without statistics
    has_names: bool  # the file has one of the model's names at least

    def error(self, config: Config, source: str) -> UserError:
        """Return the error; `source` says how the file was read, such as "read as a ViT of timm, it"."""
        counts = f" in {self._count} of {self.wanted} parameters" if self._is_another else ""
        shown = MAX_NAMED_OF_ANOTHER if self._is_another else MAX_NAMED
        problems = [
            _all_of("it lacks ", self.lacking, self._lacking, shown),
            _all_of("", self.other, self._two_shapes, shown),
            _all_of("the model has no ", self.more, self._more, shown),
        ]
        as_named = f"{source} does not fit" if source else "it does not fit"
        problem = f"{as_named}{counts}: {'; '.join(filter(None, problems))}"
        return UserError(KEY, config.model.weights, problem=problem, hint=self._hint(config.model))

    @property
    def _count(self) -> int:
        return len([n for n in (*self.lacking, *self.other) if not n.endswith(STATISTICS)])

    @property
    def _is_another(self) -> bool:
        """If most parameters do not fit, and of so many layers that nobody would skip them all."""
        is_most = 2 * self._count > self.wanted
        layers = _patterns([*self.lacking, *self.other])
        return is_most and (len(layers) > MAX_NAMED or self._count == self.wanted)

    def _hint(self, model: ModelConfig) -> str:
        names = _names_key(model)
        if not self.has_names:
            if_named = f"they belong into {names}, or it is" if names else "it looks like"
            return f"None of its names is the model's: {if_named} the weights of another model."
        others = f"Other names of the same arrays belong into {names}." if names else ""
        others = others if self.lacking and self.more else ""
        if self._is_another:
            return f"It looks like the weights of another model. {others}".rstrip()
        found = {name: model.setting_for(name, *shapes) for name, shapes in self.other.items()}
        settings = {name: setting for name, setting in found.items() if setting}
        rest = [name for name in (*self.lacking, *self.other, *self.more) if name not in settings]
        hints = [others]
        if settings:
            keys = " ".join(dict.fromkeys(settings.values()))
            hints.append(f"Set {keys}, which gives {_listed(settings)} the file's shape.")
        if rest:
            these = "the rest" if settings else "these"
            # All of them, as the key would lose what it has already.
            patterns = ",".join(dict.fromkeys([*model.weights_skip, *_patterns(rest)]))
            hints.append(f"To start {these} by model.init, set {SKIP}=[{patterns}].")
        return " ".join(filter(None, hints))

    def _lacking(self, name: str) -> str:
        return _with_nearest(name, self.lacking[name], self.more)

    def _more(self, name: str) -> str:
        return _with_nearest(name, self.more[name], self.lacking)

    def _two_shapes(self, name: str) -> str:
        given, wanted = self.other[name]
        turned = " (transposed)" if [*given] == [*wanted][::-1] else ""
        return f"{name} is {[*given]}, in the model {[*wanted]}{turned}"


def unknown_pattern(pattern: str, names: Sequence[str]) -> UserError:
    """Return the error about a pattern to skip that is of no parameter; `names` are the model's."""
    parts = [name.split(".") for name in names]
    depth = 1  # below the one layer that holds all
    while len({*(tuple(p[:depth]) for p in parts)}) == 1 and any(len(p) > depth for p in parts):
        depth += 1
    layers = [*dict.fromkeys(".".join(p[:depth]) for p in parts)]
    if len(layers) > MAX_LAYERS:
        layers = [*layers[: MAX_LAYERS - 2], "…", layers[-1]]
    choices = {".".join(p[:end]): end < len(p) for p in parts for end in range(1, len(p) + 1)}
    layers_first = sorted(choices, key=lambda name: not choices[name])
    close = nearest(pattern.removesuffix(".*").removesuffix("*"), layers_first)
    hint = f"Did you mean {close}{'.*' * choices[close]}?" if close else ""
    problem = f"no parameter has such a name; the model has {', '.join(layers)}"
    return UserError(SKIP, pattern, problem=problem, hint=hint)


def _names_key(model: ModelConfig) -> str:
    """Return the setting that takes other names; empty for a built-in model, which has none."""
    if not isinstance(model, OwnConfig):
        return ""
    is_pair = sum(bool(getattr(model, name, None)) for name in BACKENDS) > 1
    return f"model.names={AUTO_NAMES if is_pair and not model.names else 'FILE'}"


def _patterns(names: Iterable[str]) -> list[str]:
    """Return the patterns of the layers of parameters, the same in all blocks."""
    return [*dict.fromkeys(map(_pattern, names))]


def _pattern(name: str) -> str:
    first, *rest = name.split(".")
    if not rest:
        return name
    parts = [first, *("*" if part.isdecimal() else part for part in rest[:-1])]
    return ".".join([*parts, "*"])


def _with_nearest(name: str, shape: Sequence[int], others: Shapes) -> str:
    """Return a name with its shape, and the most similar one among others of that shape, or transposed."""
    alike = [other for other, its in others.items() if sorted(its) == sorted(shape)]
    closest = max(alike, key=lambda other: similarity(name, other), default="")
    if not closest or similarity(name, closest) < ALIKE:
        return f"{name} {[*shape]}"
    turned = "" if tuple(others[closest]) == tuple(shape) else ", transposed"
    return f"{name} {[*shape]} (is it {closest}{turned}?)"


def _all_of(words: str, names: Iterable[str], shown: Callable[[str], str], count: int) -> str:
    return f"{words}{_listed(names, shown, count)}" if names else ""


def _listed(names: Iterable[str], shown: Callable[[str], str] = str, count: int = MAX_NAMED) -> str:
    names = list(names)
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(map(shown, names[:count])) + more
