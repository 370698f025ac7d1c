"""What may be asked for on loading: initializers frozen, functions inlined."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper, parser

import graphopt
from graphopt.errors import ModelError, UsageError
from graphopt.model import Model, functions
from tests.nets import Net, outputs_of

CALLS = """
    <ir_version: 10, opset_import: ["" : 17, "f" : 1]>
    agraph (float[4] x, bool c) => (float[4] y) {
        a = f.twice(x)
        y = If (c) <
            then_branch = t () => (float[4] r) { r = f.twice(a) },
            else_branch = e () => (float[4] s) { s = f.once <slope: float = 0.5> (a) }
        >
    }
    <domain: "f", opset_import: ["" : 17, "f" : 1]>
    twice (v) => (w) { u = f.once <slope: float = 0.25> (v)  w = f.once <slope: float = 0.25> (u) }
    <domain: "f", opset_import: ["" : 17]>
    once <slope: float> (v) => (w) { w = LeakyRelu <alpha: float = @slope> (v) }
"""


def overridable() -> onnx.ModelProto:
    net = Net()
    proto = net.model(net.op("Relu", net.conv(net.input(1, 3, 8, 8), 4)))
    weight = proto.graph.initializer[0]
    proto.graph.input.append(helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    return proto


def test_an_overridable_initializer_is_no_constant_unless_frozen() -> None:
    proto = overridable()
    name = proto.graph.initializer[0].name
    plain, frozen = Model.load(proto), Model.load(proto, freeze_initializers=True)
    assert (plain.overridable, frozen.overridable) == ({name}, frozenset())
    assert plain.value(plain.graph.nodes[0].inputs[1]) is None
    assert frozen.value(frozen.graph.nodes[0].inputs[1]) is not None
    assert plain.proto() == proto
    del proto.graph.input[-1]
    assert frozen.proto() == proto


def test_old_formats_are_constants_already_and_stay_listed() -> None:
    proto = overridable()
    proto.ir_version = 3
    for freeze in (False, True):
        model = Model.load(proto, freeze_initializers=freeze)
        assert model.overridable == frozenset()
        assert model.value(model.graph.nodes[0].inputs[1]) is not None
        assert model.proto() == proto


def test_large_defaults_stay_in_the_file_and_out_of_the_skeleton(tmp_path: Path) -> None:
    proto = overridable()
    proto.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.ones((4, 3, 99, 99), np.float32), proto.graph.initializer[0].name)
    )
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    model = Model.load(path)
    assert model.skeleton().ByteSize() < 2000
    model.save(tmp_path / "o.onnx")
    assert onnx.load(tmp_path / "o.onnx") == proto


def test_functions_are_inlined_everywhere() -> None:
    proto = parser.parse_model(CALLS)
    assert Model.load(proto).proto() == proto, "not unless asked for"
    model = Model.load(proto, inline_functions=True)
    assert not model.functions
    onnx.checker.check_model(model.proto())
    ops = [n.op for n in model.graph.nodes] + [n.op for node in model.graph.nodes for g in node.subgraphs() for n in g.nodes]
    assert sorted(ops) == ["If"] + ["LeakyRelu"] * 5
    x = np.asarray([-1, -2, 3, 4], np.float32)
    for condition in (True, False):
        feed = {"x": x, "c": np.asarray(condition)}
        np.testing.assert_allclose(outputs_of(model.proto(), feed)[0], outputs_of(proto, feed)[0], rtol=1e-6)


def test_inlining_keeps_large_weights_in_the_file(tmp_path: Path) -> None:
    proto = parser.parse_model(CALLS)
    proto.graph.initializer.append(numpy_helper.from_array(np.arange(2**15, dtype=np.float32), "big"))
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    values = Model.load(path, inline_functions=True).constants()["big"]._values
    assert values.span is not None
    np.testing.assert_array_equal(values.array(), np.arange(2**15))


def nested(depth: int, width: int, *, loop: bool = False) -> onnx.ModelProto:
    """Functions that each call the next one ``width`` times; with ``loop`` the last calls the first."""
    own = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    made = []
    for level in range(depth):
        callee = f"f{level + 1}" if level + 1 < depth else ("f0" if loop else "")
        kind, domain = (callee, "f") if callee else ("Relu", "")
        names = ["v", *(f"u{i}" for i in range(width - 1)), "w"]
        nodes = [helper.make_node(kind, [a], [b], domain=domain) for a, b in itertools.pairwise(names)]
        made.append(helper.make_function("f", f"f{level}", ["v"], ["w"], nodes, own))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("f0", ["x"], ["y"], domain="f")], "g", [x], [y])
    return helper.make_model(graph, functions=made, opset_imports=own, ir_version=10)


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize(
    ("depth", "width", "loop"),
    [(1, 1, True), (5, 2, True), (40, 2, False), (2000, 1, True)],
    ids=["self", "ring", "bomb", "long ring"],
)
def test_calls_that_do_not_end_are_refused(depth: int, width: int, loop: bool, inline: bool) -> None:
    with pytest.raises(ModelError) as caught:
        Model.load(nested(depth, width, loop=loop), inline_functions=inline)
    assert caught.value.diagnostic.code == "GO017"


def test_a_tree_of_calls_is_no_recursion() -> None:
    proto = nested(10, 2)
    assert Model.load(proto).proto() == proto
    assert len(Model.load(proto, inline_functions=True).graph.nodes) == 2**10


def test_a_call_in_a_body_of_a_function_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "MOST_NODES", 10)
    with pytest.raises(ModelError):
        Model.load(parser.parse_model(CALLS))


def test_a_function_of_another_opset_is_not_half_inlined() -> None:
    proto = parser.parse_model(CALLS)
    for function in proto.functions:
        next(o for o in function.opset_import if o.domain == "").version = 9
    with pytest.raises(ModelError) as caught:
        Model.load(proto, inline_functions=True)
    assert caught.value.diagnostic.code == "GO017"


def test_both_are_options_of_the_commands(tmp_path: Path) -> None:
    from graphopt.cli.inspect import command as inspect
    from graphopt.cli.run import command as run

    path, out = tmp_path / "m.onnx", tmp_path / "o.onnx"
    path.write_bytes(overridable().SerializeToString())
    flags = ["--freeze-initializers", "--inline-functions"]
    result = CliRunner().invoke(run, [str(path), "-p", "simplify", "-o", str(out), "--no-timing", *flags], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert [v.name for v in onnx.load(out).graph.input] == ["x"]
    shown = CliRunner().invoke(inspect, [str(path), "--format", "json", *flags], catch_exceptions=False)
    assert list(json.loads(shown.output)["inputs"]) == ["x"]


def test_run_takes_them_for_a_model_that_is_not_loaded() -> None:
    proto = overridable()
    result = graphopt.run(proto, "", freeze_initializers=True)
    assert result.model.overridable == frozenset()
    with pytest.raises(UsageError) as caught:
        graphopt.run(graphopt.load(proto), "", freeze_initializers=True)
    assert caught.value.diagnostic.code == "GO917"


def test_an_output_on_the_inputs_data_is_refused_before_the_work(tmp_path: Path) -> None:
    from graphopt.cli.run import command as run

    path = tmp_path / "m.onnx"
    onnx.save_model(overridable(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    before = (tmp_path / "w.bin").read_bytes()
    for option in ("-o", "--report"):
        result = CliRunner().invoke(run, [str(path), option, str(tmp_path / "w.bin"), "--force"])
        assert isinstance(result.exception, UsageError)
        assert result.exception.diagnostic.code == "GO907"
    assert (tmp_path / "w.bin").read_bytes() == before
