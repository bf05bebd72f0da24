"""The file of an alignment, `names.yaml`: written for a person to read and edit, and read again."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from pipeline.atomic_files import write_text
from pipeline.commands import command
from pipeline.config.checks.suggestions import nearest
from pipeline.config.models import AUTO_NAMES, ModelConfig, OwnConfig
from pipeline.errors import UserError
from pipeline.storage.names_path import is_auto, names_in
from pipeline.storage.portable_state import Shapes
from pipeline.verify.alignment import mapping as mappings
from pipeline.verify.names.notation import Shape
from pipeline.verify.names.row_search import find_rows, unmatched
from pipeline.verify.names.rows import Row, RowError, apply_rows
from pipeline.verify.trace.graph import Array, Description

HEADER = """\
# What is the same in two models: a row for each parameter or buffer, or for each part of one.
#
# left, right   an array, by the name that its model gives it, or a part of one in NumPy's notation:
#                 attn.in_proj_weight[0:64]               entries 0 to 63 of its first axis
#                 qkv.weight.reshape(4, 3, 16, 64)[:, 0]  the first of three parts in each of four heads
# transform     steps from the left one to the right one, in NumPy's notation; without it they are equal:
#                 transpose(1, 0)
#                 reshape(4, 16, 64).transpose(2, 0, 1)
#                 flip(2, 3), take([2, 0, 1], axis=0), repeat(4, axis=0)
#
# Edit it and give it back: `python -m pipeline.verify … --names FILE` keeps its rows and aligns what it
# does not name; with `model.names=FILE` the arrays of a JAX model get the names of the torch model, and
# arrays that it does not name keep their own.
"""
KEY = "model.names"
FIELDS = ("left", "right", "transform")
ABOUT = ("model", "arrays", "layers")  # what is said of each model, below the rows


@dataclass(frozen=True)
class Side:
    """One of the two models: its kind, the shapes of its arrays, and the kinds of its layers by path."""

    model: str = ""
    arrays: Shapes = field(default_factory=dict)
    layers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NamesFile:
    """The rows of a file, each with its line, and what the file says of the two models."""

    path: Path
    key: str  # of the config or the command line, that names the file
    rows: Sequence[Row]
    lines: Sequence[int]
    left: Side = Side()
    right: Side = Side()

    def mapping(self, left: tuple[Array, ...], right: tuple[Array, ...]) -> mappings.Mapping:
        """Return the map of the elements of two models.

        Raises:
            UserError: a row does not fit them.
        """
        try:
            return apply_rows(self.rows, left, right)
        except RowError as error:
            raise self.refusal(error) from error

    def refusal(self, error: RowError) -> UserError:
        """Return the error of a row as one about the file."""
        place = f"{self.path}, line {self.lines[error.row]}"
        return UserError(self.key, place, problem=f"{error.text}: {error.problem}", hint=error.hint)


def names_of(model: ModelConfig, run: Path) -> NamesFile | None:
    """Return the file that `model.names` gives, or that `auto` has put into the folder of a run.

    None without, or if `auto` is asked of one side alone.
    """
    names = model.names if isinstance(model, OwnConfig) else None
    if names == AUTO_NAMES:
        return read_names(names_in(run), KEY) if is_auto(model) else None
    return read_names(names, KEY) if names else None


def write_names(
    path: Path, mapping: mappings.Mapping, left: Description, right: Description
) -> list[Row]:
    """Write the rows of a mapping, and what is unmatched as comments; return the rows."""
    rows = find_rows(mapping)
    lines = [HEADER + "rows:" + ("" if rows else " []")]
    for row in rows:
        lines += [f"- left: {_scalar(row.left)}", f"  right: {_scalar(row.right)}"]
        lines += [f"  transform: {_scalar(row.transform)}"] if row.transform else []
    free = {
        "left": unmatched(mapping.left, mapping.is_used),
        "right": unmatched(mapping.right, mapping.source >= 0),
    }
    for side, blocks in free.items():
        lines += [f"\n# In the {side} model alone:"] if blocks else []
        lines += [f"#   {name} {list(shape)}" for name, shape in blocks]
    lines.append("\n# Of the models, for those who read this file with one of them alone.")
    for side, model in (("left", left), ("right", right)):
        lines += [f"{side}:", f"  model: {_scalar(model.kind)}", "  arrays:"]
        lines += [f"    {_scalar(a.name)}: {list(a.shape)}" for a in model.arrays]
        if model.layers:
            lines.append("  layers:")
            lines += [f"    {_scalar(name)}: {kind}" for name, kind in model.layers.items()]
    write_text(path, "\n".join(lines) + "\n")
    return rows


def _scalar(text: str) -> str:
    """Return text as YAML, quoted if it would be read as something else: as a key or as a value."""
    try:
        is_plain = yaml.safe_load(f"{text}: x\nx: {text}") == {text: "x", "x": text}
    except yaml.YAMLError:
        is_plain = False
    if is_plain:
        return text
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=sys.maxsize).strip()


def read_names(path: Path | str, key: str) -> NamesFile:
    """Read a file of names; `key` is what names it for the user: `--names`, `model.names`.

    Raises:
        UserError: it is missing, is no YAML, or has entries of another form.
    """
    path = Path(path)
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        hint = f"Write one with: {command('verify')} LEFT RIGHT --write-names FILE"
        if key == KEY and nearest(str(path), [AUTO_NAMES]):
            hint = f"Did you mean {AUTO_NAMES}?"
        raise UserError(key, path, problem=f"it cannot be read: {reason}", hint=hint) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}, line {mark.line + 1}" if mark else path
        problem = f"this is no YAML: {getattr(error, 'problem', None) or error}"
        hint = "Text with ': ', ' #' or a bracket at its start needs quotes."
        raise UserError(key, place, problem=problem, hint=hint) from error
    return _Reader(path, key).read(root)


class _Reader:
    """Reads the parts of a file, and refuses what is not of their form."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key

    def read(self, root: yaml.Node | None) -> NamesFile:
        """Return the content of a file."""
        parts = {"rows": root} if isinstance(root, yaml.SequenceNode) else {}  # a bare list
        parts |= {} if parts else self._entries(root, ("rows", "left", "right"))
        if "rows" not in parts:
            raise self._error(root, "it has no rows", "It needs a list under `rows:`.")
        rows, lines = [], []
        for node in self._items(parts["rows"]):
            entries = self._entries(node, FIELDS)
            texts = {name: self._text(entry) for name, entry in entries.items()}
            if missing := [name for name in FIELDS[:2] if not texts.get(name)]:
                raise self._error(
                    node, f"this row has no `{missing[0]}`", f"A row has {_listed(FIELDS)}."
                )
            rows.append(Row(**texts))
            lines.append(node.start_mark.line + 1)
        sides = {name: self._side(parts[name]) for name in ("left", "right") if name in parts}
        return NamesFile(self.path, self.key, rows, lines, **sides)

    def _side(self, node: yaml.Node) -> Side:
        entries = self._entries(node, ABOUT)
        arrays = self._entries(entries["arrays"]) if "arrays" in entries else {}
        layers = self._entries(entries["layers"]) if "layers" in entries else {}
        return Side(
            self._text(entries["model"]) if "model" in entries else "",
            {name: self._shape(shape) for name, shape in arrays.items()},
            {name: self._text(kind) for name, kind in layers.items()},
        )

    def _shape(self, node: yaml.Node) -> Shape:
        sizes = [self._text(item) for item in self._items(node)]
        if not all(size.isdecimal() for size in sizes):
            raise self._error(node, "this is no shape", "Write it as in [64, 3, 3, 3].")
        return tuple(map(int, sizes))

    def _entries(
        self, node: yaml.Node | None, known: Sequence[str] | None = None
    ) -> dict[str, yaml.Node]:
        """Return the entries of a mapping; refuse a key that is twice there, or not `known`."""
        if known is None and isinstance(node, yaml.ScalarNode) and not self._text(node):
            return {}
        if not isinstance(node, yaml.MappingNode):
            hint = f"It has the keys {_listed(known)}." if known else "Write `name: value`."
            raise self._error(node, "this must be a mapping", hint)
        entries: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = self._text(key)
            if name in entries:
                raise self._error(key, f"`{name}` is here twice", "Leave out one of them.")
            if known is not None and name not in known:
                raise self._error(key, f"`{name}` is unknown", f"Known here: {_listed(known)}.")
            entries[name] = value
        return entries

    def _items(self, node: yaml.Node) -> Iterator[yaml.Node]:
        if isinstance(node, yaml.ScalarNode) and not self._text(node):
            return
        if not isinstance(node, yaml.SequenceNode):
            raise self._error(node, "this must be a list", "Its entries begin with `-`.")
        yield from node.value

    def _text(self, node: yaml.Node) -> str:
        """Return the text of a scalar as it is written: a name may be a number."""
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, "this must be text", "Put it in quotes if it has brackets.")
        is_null = node.tag == "tag:yaml.org,2002:null"
        return "" if is_null else node.value

    def _error(self, node: yaml.Node | None, problem: str, hint: str) -> UserError:
        place = f"{self.path}, line {node.start_mark.line + 1}" if node else self.path
        return UserError(self.key, place, problem=problem, hint=hint)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
