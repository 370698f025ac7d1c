"""What every real model must come through, and how it is held against the model that went in.

    through ``[]``              the same message (default-valued presence bits aside)
    through ``simplify,fold``   the same interface and outputs; nothing around the graph lost
    ``inspect`` and ``groups``  exit code 0, in every format
    ``prune`` and ``quant``     a model that the runtime loads, with the same interface, or a clean coded error

Outputs are compared in onnxruntime without its graph optimizations, on inputs that are none of those that the pipeline itself
verified with. Where the runtime has no kernel the passes run unverified, and the structure alone is held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

import graphopt
from graphopt.cli.app import app
from graphopt.errors import GraphoptError
from graphopt.model import Model
from graphopt.report import to_json, to_text
from tests.differential.checks import interface
from tests.differential.protos import differences
from tests.nets import Array

LOSSY = ("fold,prune:ratio=0", "prune:macs=0.8", "quant")
"""Every one must give a sound model or a coded error."""

ROUNDING = 64

Run = Callable[[onnx.ModelProto, Mapping[str, Any]], list[Any]]

SHELL = ("ir_version", "producer_name", "domain", "model_version", "doc_string", "metadata_props", "training_info", "functions")
"""What lies around the graph and no pass here has any business with."""


@dataclass(frozen=True)
class Real:
    """One model as files bring it.

    Attributes:
        build: makes it.
        feed: what to run it on; drawn from the declared types if left out. ``dynamic``: size of open dimensions then.
        twin: a model of the same function to compare with, where onnxruntime does not load this one though it will run the result.
        runs: whether onnxruntime runs it; without that the passes run unverified, and structure and interface alone are held,
            with ``reference`` also what onnx's own reference implementation computes.
        loads: whether onnxruntime, which did not load the model that went in, loads what comes out.
        refused: the code of the error that ``simplify,fold`` must end in, or codes, where it depends on the runtime.
        kept, gone: operators that ``simplify,fold`` must leave, must remove.
        told: codes of refusals that its report must hold.
        lossy: the other pipelines to try, and the error codes in which each may end beside those of budgets.
    """

    build: Callable[[], onnx.ModelProto]
    feed: Callable[[], Mapping[str, Any]] | None = None
    dynamic: int = 3
    twin: Callable[[], onnx.ModelProto] | None = None
    runs: bool = True
    reference: bool = False
    loads: bool = False
    refused: str = ""
    kept: str = ""
    gone: str = ""
    told: str = ""
    lossy: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(LOSSY, ""))

    def original(self) -> onnx.ModelProto:
        """What the result must compute."""
        return self.build() if self.twin is None else self.twin()

    def inputs(self, proto: onnx.ModelProto) -> dict[str, Any]:
        return dict(self.feed()) if self.feed is not None else drawn(proto, self.dynamic)


def text(body: str, opset: int = 17, ir: int = 8, more: str = "") -> onnx.ModelProto:
    """A model in ONNX's textual syntax; ``more``: further operator sets, as ``, "domain" : version``."""
    return parser.parse_model(f'<ir_version: {ir}, opset_import: ["" : {opset}{more}]> {body}')


def weight(graph: onnx.GraphProto, name: str, *shape: int, seed: int = 0, dtype: Any = np.float32) -> None:
    """Add a drawn initializer."""
    value = np.random.default_rng([seed, *map(ord, name)]).uniform(-1, 1, shape)
    graph.initializer.append(numpy_helper.from_array(np.asarray(value).astype(dtype), name))


def value(name: str, elem_type: int = TensorProto.FLOAT, shape: Any = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, elem_type, shape)


def model_of(graph: onnx.GraphProto, opset: int = 17, ir: int = 8, **domains: int) -> onnx.ModelProto:
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d.replace("_", "."), v) for d, v in domains.items())]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir)


def drawn(proto: onnx.ModelProto, dynamic: int) -> dict[str, Any]:
    """Inputs by the declared types: normal floats, small integers, both truths, digits."""
    random = np.random.default_rng(11)
    held = {t.name for t in proto.graph.initializer} | {s.values.name for s in proto.graph.sparse_initializer}
    feed: dict[str, Any] = {}
    for entry in proto.graph.input:
        if entry.name in held:
            continue
        kind = entry.type.tensor_type
        shape = [d.dim_value if d.HasField("dim_value") else dynamic for d in kind.shape.dim]
        feed[entry.name] = _draw(random, kind.elem_type, shape)
    return feed


def _draw(random: np.random.Generator, elem_type: int, shape: list[int]) -> Array:
    if elem_type == TensorProto.STRING:
        return np.asarray(random.integers(0, 9, shape)).astype(str).astype(object)
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(elem_type))
    if dtype.kind == "b":
        return np.asarray(random.integers(0, 2, shape) == 1)
    if dtype.kind in "iu":
        return np.asarray(random.integers(0, 3, shape)).astype(dtype)
    return np.asarray(random.standard_normal(shape)).astype(dtype)


def run_of(proto: onnx.ModelProto, feed: Mapping[str, Any]) -> list[Any]:
    """What the runtime computes, its optimizer off. Types that numpy lacks are for ``graphopt.runtime`` to carry."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feed)))


def reference_of(proto: onnx.ModelProto, feed: Mapping[str, Any]) -> list[Any]:
    return list(ReferenceEvaluator(proto).run(None, dict(feed)))


# -- the checks --------------------------------------------------------------------------------------------------------------


def comes_through_unchanged(case: Real) -> None:
    """``[]``: from a proto, from bytes, from a file, and as a copy."""
    proto = case.build()
    before = proto.SerializeToString(deterministic=True)
    result = graphopt.run(proto, [], timing=False, verify=False, data=_given(case, proto))
    assert differences(proto, result.model.proto()) == []
    assert differences(proto, Model.load(before).proto()) == []
    assert proto.SerializeToString(deterministic=True) == before, "the source was changed"


def is_told(case: Real, path: Path) -> None:
    """``inspect`` and ``groups``, in every format."""
    path.write_bytes(case.build().SerializeToString())
    runner = CliRunner()
    for command, forms in (("inspect", ("text", "json")), ("groups", ("text", "json", "dot"))):
        for form in forms:
            done = runner.invoke(app, [command, str(path), "--format", form], catch_exceptions=False, standalone_mode=False)
            assert done.exit_code == 0
            assert done.output


def computes_the_same(case: Real) -> None:
    """``simplify,fold``: the error that was foretold, or the same function."""
    proto = case.build()
    try:
        result = graphopt.run(proto, "simplify,fold", timing=False, verify=case.runs, data=_given(case, proto))
    except GraphoptError as error:
        assert error.diagnostic.code in case.refused.split(), str(error)
        return
    assert not case.refused, f"went through, where {case.refused} was to be told"
    made = result.model.proto()
    keeps_what_surrounds_it(proto, made)
    ops = {n.op_type for n in _nodes(made.graph)}
    assert set(case.kept.split()) <= ops, f"not kept: {sorted(set(case.kept.split()) - ops)}"
    assert not set(case.gone.split()) & ops, f"still there: {sorted(set(case.gone.split()) & ops)}"
    told = {refusal.code for record in result.report.passes for refusal in record.refusals}
    assert set(case.told.split()) <= told, f"told: {sorted(told)}"
    assert to_text(result.report, width=100) and to_json(result.report)
    if case.runs or case.reference:
        same_outputs(case.original(), made, case.inputs(proto), run_of if case.runs else reference_of)
    if case.loads:
        assert run_of(made, case.inputs(proto))


def comes_out_sound(case: Real, pipeline: str) -> None:
    """A lossy pipeline: a model with the same interface that the runtime loads and runs, or a coded error."""
    proto = case.build()
    try:
        result = graphopt.run(proto, pipeline, timing=False, verify=case.runs, data=_given(case, proto))
    except GraphoptError as error:
        code = error.diagnostic.code
        assert code in case.lossy[pipeline].split() or code.startswith("GO4") or code in case.refused.split(), str(error)
        return
    made = result.model.proto()
    keeps_what_surrounds_it(proto, made)
    if case.runs:
        feed = case.inputs(proto)
        want, have = run_of(case.original(), feed), run_of(made, feed)
        assert [np.shape(a) for a in want] == [np.shape(b) for b in have]
        if pipeline.endswith("ratio=0"):
            same_outputs(case.original(), made, feed, run_of)


def keeps_what_surrounds_it(proto: onnx.ModelProto, made: onnx.ModelProto) -> None:
    assert interface(made) == interface(proto)
    for name in SHELL:
        assert str(getattr(made, name)) == str(getattr(proto, name)), name
    assert {(o.domain, o.version) for o in proto.opset_import if o.domain not in ("", "ai.onnx")} <= {
        (o.domain, o.version) for o in made.opset_import
    }
    assert made.graph.name == proto.graph.name
    assert made.graph.doc_string == proto.graph.doc_string
    assert str(made.graph.metadata_props) == str(proto.graph.metadata_props)


def mismatch(want: Any, have: Any) -> str:
    """Why two values differ by more than sums in another order do: ``ROUNDING`` units in the last place of the greatest value."""
    if isinstance(want, (list, tuple)):
        return next(filter(None, map(mismatch, want, have)), "") if len(want) == len(have) else "another length"
    if want is None or isinstance(want, dict):
        return "" if want == have else "not equal"
    a, b = np.asarray(want), np.asarray(have)
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"{a.dtype}{a.shape} became {b.dtype}{b.shape}"
    if a.dtype.kind in "OUSbiuc":
        return "" if np.array_equal(a, b) else "not equal"
    x, y = a.astype(np.float64), b.astype(np.float64)
    unit = float(ml_dtypes.finfo(a.dtype).eps) * max(
        float(np.abs(x[np.isfinite(x)]).max(initial=0)), float(np.finfo(np.float32).tiny)
    )
    alike = np.isclose(y, x, rtol=0, atol=ROUNDING * unit, equal_nan=True)
    return "" if alike.all() else f"{np.count_nonzero(~alike)} of {x.size} differ, by up to {np.abs(y - x)[~alike].max():.3g}"


def same_outputs(proto: onnx.ModelProto, made: onnx.ModelProto, feed: Mapping[str, Any], run: Run) -> None:
    for output, want, have in zip(proto.graph.output, run(proto, feed), run(made, feed), strict=True):
        assert mismatch(want, have) == "", output.name


def _given(case: Real, proto: onnx.ModelProto) -> Any:
    """The case's own inputs as data, where such a model cannot be run on made-up ones."""
    del proto
    return None if case.feed is None else [dict(case.feed())]


def _nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    found: list[onnx.NodeProto] = []
    for node in graph.node:
        found.append(node)
        for attribute in node.attribute:
            for body in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                found += _nodes(body)
    return found
