"""TOML files -> ``Target``. The schema is the table below: a field's dotted name, its reader, and what it is when left out.

A field is an inline table ``{ value = ..., evidence = "measured", source = "..." }``. A name that the schema does not have, a value
of the wrong kind and a missing evidence are usage errors that name the field.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Mapping
from importlib import metadata, resources
from pathlib import Path
from typing import Any, NoReturn, cast

from graphopt.errors import UsageError
from graphopt.target.costs import Cost, CostRow, CostTable
from graphopt.target.latency import LatencyTable, ShapeKey, Staircase
from graphopt.target.target import Evidence, Int8Scheme, Shield, Target

GROUP = "graphopt.targets"
EVIDENCE = ("measured", "documented", "assumed")
Table = dict[str, Any]
Reader = Callable[[Any], Any]


def names() -> list[str]:
    """Every target that can be loaded by name."""
    return sorted({*_builtin(), *(point.name for point in metadata.entry_points(group=GROUP))})


def load(name_or_path: str | os.PathLike[str]) -> Target:
    """See ``Target.load``."""
    name = os.fspath(name_or_path)
    builtin = _builtin().get(name)
    if builtin is not None:
        return parse(builtin, f"target {name}")
    for point in metadata.entry_points(group=GROUP):
        if point.name == name:
            return _from_package(point)
    if name.endswith(".toml") or os.sep in name:
        return _from_file(Path(name))
    near = difflib.get_close_matches(name, names(), n=3, cutoff=0.4) or names()
    raise UsageError("GO905", name, "no such target", f"near: {', '.join(near)}; or the path of a .toml file")


def text_of(name_or_path: str | os.PathLike[str]) -> str:
    """The TOML text of a built-in target or a file, to write a variant of. Raises as ``load``; UsageError GO905 for a package's."""
    name = os.fspath(name_or_path)
    load(name)
    if name in _builtin():
        return _builtin()[name]
    if not Path(name).is_file():
        raise UsageError("GO905", name, "is a target of an installed package, not a file", "give the path of its TOML file")
    return Path(name).read_text(encoding="utf-8")


def parse(text: str, where: str) -> Target:
    """A target from the text of its TOML file. Raises UsageError GO906 that names the field."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError("GO906", where, f"not TOML: {error}", "see the built-in targets for the form") from None
    return _Parser(where).target(table)


def _builtin() -> dict[str, str]:
    """Name -> text of the files beside this module."""
    found = sorted((f for f in resources.files("graphopt.target").iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return {file.name.removesuffix(".toml"): file.read_text(encoding="utf-8") for file in found}


def _from_package(point: metadata.EntryPoint) -> Target:
    """An installed package's target: the entry point is a ``Target``, or the path of its TOML file."""
    where = f"target {point.name} of {point.dist.name if point.dist else point.value}"
    try:
        found: object = point.load()
    except (ImportError, AttributeError) as error:
        raise UsageError("GO906", where, f"cannot be loaded: {error}", "reinstall the package that brings it") from None
    if isinstance(found, Target):
        return found
    if isinstance(found, str | os.PathLike):
        return _from_file(Path(cast("str | os.PathLike[str]", found)))
    raise UsageError("GO906", where, f"is a {type(found).__name__}, neither a Target nor the path of a TOML file")


def _from_file(path: Path) -> Target:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError("GO905", str(path), "no such target file", f"built in: {', '.join(names())}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("GO906", str(path), f"cannot be read: {error}", "give a UTF-8 TOML file") from None
    return parse(text, str(path))


# -- readers: each returns the value or raises ValueError with what it wanted ------------------------------------------------


def _choice(*allowed: str) -> Reader:
    def read(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return str(value)

    return read


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _positive(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("must be a whole number, 1 or more")
    return value


def _ops(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(op, str) for op in cast("list[object]", value)):
        raise ValueError("must be a list of operator names")
    return frozenset(cast("list[str]", value))


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) and v for v in cast("list[object]", value)):
        raise ValueError("must be an array of texts")
    return tuple(cast("list[str]", value))


def _range(value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(cast("list[object]", value)) != 2:
        raise ValueError("must be [least, greatest]")
    bounds: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
    low, high = map(_positive, bounds)
    if low > high:
        raise ValueError("must be [least, greatest]")
    return low, high


def _versions(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        raise ValueError("must be a table of operator = opset")
    return {str(op): _positive(version) for op, version in cast("Table", value).items()}


def _lists(value: Any) -> dict[str, tuple[Any, ...]]:
    entries = cast("Table", value) if isinstance(value, dict) else None
    if entries is None or not all(isinstance(v, list) for v in entries.values()):
        raise ValueError("must be a table of name = [values]")
    return {str(name): tuple(values) for name, values in entries.items()}


def _shield(value: Any) -> Shield:
    entries = cast("Table", value) if isinstance(value, dict) else {}
    if set(entries) != {"before", "behind", "op"} or not isinstance(entries["op"], str):
        raise ValueError("must be a table { before = [operators], behind = [operators], op = operator }")
    return Shield(_ops(entries["before"]), _ops(entries["behind"]), entries["op"])


REQUIRED: Any = object()
"""Stands for: the field may not be left out."""

INT8_FIELDS: Mapping[str, tuple[Reader, Any]] = {
    "activation": (_choice("uint8", "int8"), REQUIRED),
    "weight": (_choice("int8"), "int8"),
    "bias": (_choice("int32", "float32"), "int32"),
    "symmetric": (_bool, False),
    "per_channel": (_bool, REQUIRED),
    "reduce_range": (_bool, False),
    "min_opset": (_positive, REQUIRED),
    "kernels": (_ops, REQUIRED),
    "same_scale": (_ops, frozenset[str]()),
    "same_scale_since": (_versions, {}),
    "fused_activations": (_ops, frozenset[str]()),
    "float_output": (_ops, frozenset[str]()),
    "float_output_unless": (_ops, frozenset[str]()),
    "require": (_lists, {}),
    "ranks": (_lists, {}),
    "rewrites": (_ops, frozenset[str]()),
    "shield": (_shield, Shield()),
}


class _Parser:
    """One file being read; remembers each field's evidence."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.evidence: dict[str, Evidence] = {}

    def fail(self, name: str, why: str) -> NoReturn:
        raise UsageError("GO906", f"{self.where}: field '{name}'", why, "see the built-in targets for the form")

    def target(self, table: Table) -> Target:
        self.known(table, "", {"name", "title", "channel_step", "int8", "fusions", "cost", "operators", "opsets", "latency"})
        name = self.text(table, "name")
        steps = {
            dtype: cast("int", self.stated(stated, f"channel_step.{dtype}", _positive))
            for dtype, stated in self.table(table, "channel_step").items()
        }
        int8 = self.int8(self.table(table, "int8")) if "int8" in table else None
        fusions = self.stated(table["fusions"], "fusions", _texts) if "fusions" in table else ()
        costs = self.costs(table.get("cost", []))
        operators = self.stated(table["operators"], "operators", _ops) if "operators" in table else None
        opsets = self.stated(table["opsets"], "opsets", _range) if "opsets" in table else None
        latency = self.latency(self.table(table, "latency")) if "latency" in table else None
        title = str(table.get("title", name))
        return Target(name, title, steps, int8, fusions, costs, operators, opsets, latency, self.evidence)

    def latency(self, table: Table) -> LatencyTable:
        self.known(table, "latency.", {"step", "align", "scale", "rest", "shape", "evidence", "source"})
        self.evidence["latency"] = self.proof(table, "latency")
        rows = table.get("shape", [])
        if not isinstance(rows, list):
            self.fail("latency.shape", "must be an array of tables: [[latency.shape]]")
        shapes: dict[ShapeKey, Staircase] = {}
        listed: list[Any] = rows  # pyright: ignore[reportUnknownVariableType]
        for index, row in enumerate(listed):
            where = f"latency.shape[{index}]"
            if not isinstance(row, dict):
                self.fail(where, "must be a table")
            made = self.staircase(cast("Table", row), where)
            if made.key in shapes:
                self.fail(where, "second row for the same shape")
            shapes[made.key] = made
        step = self.positive(table.get("step", 1), "latency.step")
        scale, rest = (self.number(table.get(n, d), f"latency.{n}") for n, d in (("scale", 1.0), ("rest", 0.0)))
        return LatencyTable(step, self.positive(table.get("align", 1), "latency.align"), scale, rest, shapes)

    def staircase(self, row: Table, where: str) -> Staircase:
        sizes = ("kernel", "strides", "dilations", "size", "inputs", "outputs")
        self.known(row, f"{where}.", {*sizes, "op", "grouping", "groups", "us", "odd"})
        kernel, strides, dilations, size, inputs, outputs = (self.widths(row.get(n, []), f"{where}.{n}") for n in sizes)
        grouping = row.get("grouping", "dense")
        if grouping not in ("dense", "depthwise", "grouped"):
            self.fail(f"{where}.grouping", "must be dense, depthwise or grouped")
        groups = self.positive(row.get("groups", 1), f"{where}.groups")
        key = ShapeKey(self.text(row, "op", where), kernel, strides, dilations, grouping, groups, size)
        us: Any = row.get("us")
        if not isinstance(us, list) or not all(isinstance(line, list) for line in cast("list[object]", us)):
            self.fail(f"{where}.us", "must be a list of lists of microseconds")
        times = [[self.number(t, f"{where}.us") for t in line] for line in cast("list[list[object]]", us)]
        if not outputs or len(times) != max(1, len(inputs)) or any(len(line) != len(outputs) for line in times):
            self.fail(f"{where}.us", "must have a row of times for each of inputs, a time for each of outputs")
        if any(list(w) != sorted(set(w)) for w in (inputs, outputs)):
            self.fail(where, "inputs and outputs must ascend")
        return Staircase(
            key, inputs, outputs, tuple(tuple(line) for line in times), self.number(row.get("odd", 1.0), f"{where}.odd")
        )

    def widths(self, value: Any, name: str) -> tuple[int, ...]:
        if not isinstance(value, list):
            self.fail(name, "must be a list of whole numbers")
        return tuple(self.positive(v, name) for v in cast("list[object]", value))

    def number(self, value: Any, name: str) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e12:
            self.fail(name, "must be a number, 0 or more")
        return float(value)

    def int8(self, table: Table) -> Int8Scheme:
        self.known(table, "int8.", set(INT8_FIELDS))
        values: dict[str, Any] = {}
        for name, (reader, default) in INT8_FIELDS.items():
            if name in table:
                values[name] = self.stated(table[name], f"int8.{name}", reader)
            elif default is REQUIRED:
                self.fail(f"int8.{name}", "is missing")
            else:
                values[name] = default
        return Int8Scheme(**values)

    def costs(self, rows: Any) -> CostTable:
        if not isinstance(rows, list):
            self.fail("cost", "must be an array of tables: [[cost]]")
        made: dict[tuple[str, str], CostRow] = {}
        listed: list[Any] = rows  # pyright: ignore[reportUnknownVariableType]
        for index, row in enumerate(listed):
            where = f"cost[{index}]"
            if not isinstance(row, dict):
                self.fail(where, "must be a table")
            entry = cast("Table", row)
            self.known(entry, f"{where}.", {"op", "kind", "basis", "align", "float", "int8", "evidence", "source"})
            op, kind = self.text(entry, "op", where), str(entry.get("kind", ""))
            basis = entry.get("basis", "output")
            if basis not in ("output", "input"):
                self.fail(f"{where}.basis", "must be output or input")
            if (op, kind) in made:
                self.fail(where, f"second row for {op} {kind}".rstrip())
            self.evidence[f"cost.{op}.{kind}".rstrip(".")] = self.proof(entry, where)
            float_, int8 = self.cost(entry, "float", where), self.cost(entry, "int8", where)
            made[op, kind] = CostRow(op, kind, basis, float_, int8, self.positive(entry.get("align", 1), f"{where}.align"))
        return CostTable(made)

    def cost(self, entry: Table, domain: str, where: str) -> Cost | None:
        if domain not in entry:
            return None
        name, values = f"{where}.{domain}", entry[domain]
        if not isinstance(values, dict):
            self.fail(name, "must be a table of coefficients in nanoseconds")
        table = cast("Table", values)
        self.known(table, f"{name}.", {"node", "element", "mac", "tap", "weight", "odd", "cold"})
        for key, value in table.items():
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e12:
                self.fail(f"{name}.{key}", "must be a number of nanoseconds, 0 or more")
        return Cost(**{key: float(value) for key, value in table.items()})

    def positive(self, value: Any, name: str) -> int:
        try:
            return _positive(value)
        except ValueError as error:
            self.fail(name, str(error))

    # -- the form of a field -----------------------------------------------------------------------------------------------

    def stated(self, field: Any, name: str, reader: Reader) -> Any:
        """The value of ``{ value, evidence, source }``, read by ``reader``; the evidence is kept."""
        if not isinstance(field, dict) or "value" not in field:
            self.fail(name, "must be a table with value, evidence and source")
        table = cast("Table", field)
        self.known(table, f"{name}.", {"value", "evidence", "source"})
        self.evidence[name] = self.proof(table, name)
        try:
            return reader(table["value"])
        except ValueError as error:
            self.fail(name, str(error))

    def proof(self, table: Table, name: str) -> Evidence:
        kind, source = table.get("evidence"), table.get("source")
        if kind not in EVIDENCE:
            self.fail(f"{name}.evidence", f"must be one of {', '.join(EVIDENCE)}")
        if not isinstance(source, str) or not source:
            self.fail(f"{name}.source", "must say where the value comes from")
        return Evidence(kind, source)

    def table(self, table: Table, name: str) -> Table:
        found = table.get(name, {})
        if not isinstance(found, dict):
            self.fail(name, "must be a table")
        return cast("Table", found)

    def text(self, table: Table, name: str, where: str = "") -> str:
        found = table.get(name)
        if not isinstance(found, str) or not found:
            self.fail(f"{where}.{name}".lstrip("."), "must be a text")
        return found

    def known(self, table: Table, prefix: str, allowed: set[str]) -> None:
        for name in table:
            if name not in allowed:
                near = difflib.get_close_matches(name, allowed, n=1)
                self.fail(prefix + name, f"is unknown{f'; did you mean {near[0]}?' if near else ''}")
