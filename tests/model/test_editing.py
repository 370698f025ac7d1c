"""Edits keep both ends of every edge in step, and copies are independent."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graphopt.model import Model, node_key, node_label
from tests.nets import Net, ops_of, outputs_of


def residual() -> onnx.ModelProto:
    net = Net()
    i = net.input(1, 4, 8, 8)
    return net.model(net.op("Relu", net.op("Add", net.conv(i, 4, pad=1), i)))


def test_a_new_node_takes_over_the_tensor_of_the_old_one() -> None:
    model = Model.load(residual())
    relu = model.graph.nodes[-1]
    output = relu.outputs[0]
    new = model.add("Tanh", [relu.inputs[0]], [output], before=relu)
    assert model.producer(output) is new
    assert model.sweep() == 1
    assert ops_of(model.proto()) == ["Add", "Conv", "Tanh"]
    assert model.proto().graph.output == residual().graph.output


def test_replacing_uses_reaches_every_reader() -> None:
    model = Model.load(residual())
    x = model.graph.inputs[0]
    new = model.variable("y")
    model.add("Neg", [x], [new], before=model.graph.nodes[0])
    readers = [n for n in model.users(x) if n.op != "Neg"]
    model.replace_uses(x, new)
    assert {node_key(n) for n in model.users(new)} >= {node_key(n) for n in readers}


def test_removing_a_node_detaches_it() -> None:
    model = Model.load(residual())
    relu = model.graph.nodes[-1]
    total = relu.inputs[0]
    model.remove(relu)
    assert model.users(total) == []


def test_a_copy_is_independent() -> None:
    model = Model.load(residual())
    twin = model.copy()
    twin.remove(twin.graph.nodes[-1])
    assert model.proto() == residual()


def test_fresh_names_are_new_and_deterministic() -> None:
    model = Model.load(residual())
    assert [model.fresh("x"), model.fresh("x"), model.fresh("new")] == ["x_1", "x_2", "new"]


def test_every_edit_moves_the_version_on() -> None:
    model = Model.load(residual())
    seen = [model.version]
    model.set_input(model.graph.nodes[-1], 0, model.graph.inputs[0])
    seen.append(model.version)
    model.sweep()
    seen.append(model.version)
    assert seen == sorted(set(seen))


def test_sorting_is_stable_and_mends_disorder() -> None:
    proto = residual()
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(nodes))
    model = Model.load(proto)
    assert model.proto() == proto, "reading alone changes nothing"
    model.sort()
    assert [n.op for n in model.graph.nodes] == ["Conv", "Add", "Relu"]


def test_unused_initializers_stay_and_orphans_of_a_pass_go() -> None:
    proto = residual()
    proto.graph.initializer.append(helper.make_tensor("spare", TensorProto.FLOAT, [1], [1.0]))
    model = Model.load(proto)
    assert model.proto() == proto
    model.set_input(model.graph.nodes[1], 0, model.graph.inputs[0])
    model.sweep()
    assert [i.name for i in model.proto().graph.initializer] == ["spare"]


def annotated() -> onnx.ModelProto:
    """The weight is named by a quantization annotation, "spare" by training information."""
    proto = residual()
    proto.graph.initializer.append(helper.make_tensor("spare", TensorProto.FLOAT, [1], [1.0]))
    note = proto.graph.quantization_annotation.add(tensor_name="t0")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=proto.graph.initializer[0].name)
    proto.training_info.add().update_binding.add(key="spare", value="y")
    return proto


def test_initializers_that_something_else_names_outlive_their_readers() -> None:
    model = Model.load(annotated()).copy()
    weight = model.graph.nodes[0].inputs[1].name
    model.set_input(model.graph.nodes[1], 0, model.graph.inputs[0])
    model.sweep()
    assert model.drop_unused() == []
    assert {tensor.name for tensor in model.proto().graph.initializer} == {weight, "spare"}


def test_old_formats_list_new_constants_as_inputs() -> None:
    """Before IR 4 an initializer that is no input is invalid."""
    proto = residual()
    proto.ir_version = 3
    proto.opset_import[0].version = 8
    proto.graph.input.extend(helper.make_tensor_value_info(i.name, i.data_type, i.dims) for i in proto.graph.initializer)
    model = Model.load(proto)
    relu = model.graph.nodes[-1]
    model.add("Add", [relu.inputs[0], model.constant("shift", np.ones(1, np.float32))], [relu.outputs[0]])
    model.sweep()
    onnx.checker.check_model(model.proto())
    assert model.proto().graph.input[-1].name == "shift"


def test_outer_tensors_know_their_readers_in_subgraphs() -> None:
    then = helper.make_graph([helper.make_node("Neg", ["x"], ["a"])], "then", [], [helper.make_tensor_value_info("a", 1, [2])])
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["b"])], "else", [], [helper.make_tensor_value_info("b", 1, [2])]
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    inputs = [helper.make_tensor_value_info("c", TensorProto.BOOL, []), helper.make_tensor_value_info("x", 1, [2])]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", 1, [2])])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model = Model.load(proto)
    assert model.proto() == proto
    assert model.copy().proto() == proto
    assert sorted(n.op for n in model.users(model.graph.inputs[1])) == ["Identity", "Neg"]


def test_labels_name_what_they_can() -> None:
    model = Model.load(residual())
    conv = model.graph.nodes[0]
    assert node_label(conv) == "Conv 'conv0'"
    conv.name = ""
    assert node_label(conv) == "Conv -> 't0'"


def test_fresh_names_avoid_what_nothing_reads() -> None:
    proto = residual()
    value = onnx.numpy_helper.from_array(np.ones(2, np.float32), "unused")
    proto.graph.initializer.append(value)
    proto.graph.value_info.append(helper.make_tensor_value_info("stray", TensorProto.FLOAT, [1]))
    inner = helper.make_node("Constant", [], ["inner"], value=value)
    hidden = onnx.numpy_helper.from_array(np.ones(2, np.float32), "hidden")
    out = [helper.make_tensor_value_info("inner", TensorProto.FLOAT, [2])]
    branches = {name: helper.make_graph([inner], name, [], out, [hidden]) for name in ("then_branch", "else_branch")}
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(True), "condition"))
    proto.graph.node.append(helper.make_node("If", ["condition"], ["chosen"], **branches))
    model = Model.load(proto)
    assert [model.fresh(name) for name in ("unused", "stray", "inner", "hidden")] == ["unused_1", "stray_1", "inner_1", "hidden_1"]


def test_contradictory_descriptions_of_a_tensor_stay() -> None:
    proto = residual()
    inner = proto.graph.node[0].output[0]
    for elem_type, shape in ((TensorProto.INT64, [9]), (TensorProto.FLOAT, [1, 4, 8, 8])):
        proto.graph.value_info.append(helper.make_tensor_value_info(inner, elem_type, shape))
    proto.graph.value_info.append(helper.make_tensor_value_info(proto.graph.output[0].name, TensorProto.INT64, [1]))
    assert Model.load(proto).proto() == proto


MISTYPED = {
    "a tensor": helper.make_attribute("value_float", helper.make_tensor("", TensorProto.FLOAT, [], [1.0])),
    "fractions for integers": helper.make_attribute("value_ints", [1.5]),
    "text for numbers": helper.make_attribute("value_floats", ["a"]),
}


@pytest.mark.parametrize("name", MISTYPED)
def test_a_constant_of_the_wrong_kind_has_no_value(name: str) -> None:
    proto = residual()
    node = proto.graph.node.add(op_type="Constant", output=["odd"])
    node.attribute.append(MISTYPED[name])
    model = Model.load(proto)
    assert model.value(model.graph.nodes[-1].outputs[0]) is None


def test_nodes_get_a_name_that_no_other_in_their_graph_has() -> None:
    """Runtimes refuse two nodes of one name in a body, too, but not one that has the name of a node outside."""
    top = helper.make_tensor_value_info("b", TensorProto.FLOAT, [2])
    inner = [helper.make_node("Relu", [a], [b], name="same") for a, b in (("x", "a"), ("a", "b"))]
    body = helper.make_graph(inner, "body", [], [top])
    ok, x = (helper.make_tensor_value_info(*value) for value in (("ok", TensorProto.BOOL, []), ("x", TensorProto.FLOAT, [2])))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    node = helper.make_node("If", ["ok"], ["y"], name="same", then_branch=body, else_branch=body)
    model = Model.load(helper.make_model(helper.make_graph([node], "net", [ok, x], [y])))
    assert len(model.separate_names()) == 2
    assert [model.graph.nodes[0].name, *(n.name for g in model.graph.nodes[0].subgraphs() for n in g.nodes)] == [
        "same", "same", "same_1", "same", "same_2",
    ]  # fmt: skip


def test_a_skeleton_shortens_the_default_domain_in_the_bodies_of_functions() -> None:
    top = onnx.ValueInfoProto(name="r")
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["r"], domain="ai.onnx")], "body", [], [top])
    node = helper.make_node("If", ["ok"], ["y"], then_branch=body, else_branch=body, domain="ai.onnx")
    imports = [helper.make_opsetid("ai.onnx", 17), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "F", ["x", "ok"], ["y"], [node], imports)
    ok, x, y = (
        helper.make_tensor_value_info(name, kind, [])
        for name, kind in (("ok", TensorProto.BOOL), ("x", TensorProto.FLOAT), ("y", TensorProto.FLOAT))
    )
    graph = helper.make_graph([helper.make_node("F", ["x", "ok"], ["y"], domain="own")], "net", [x, ok], [y])
    skeleton = Model.load(helper.make_model(graph, functions=[function], opset_imports=imports)).skeleton()
    onnx.checker.check_model(skeleton)


@pytest.mark.parametrize("versions", [{"": 11, "ai.onnx": 13}, {"ai.onnx": 13, "": 11}])
def test_of_two_versions_of_an_operator_set_the_last_one_counts(versions: dict[str, int]) -> None:
    """Softmax is over one axis from version 13 on, over all but the first before: what onnxruntime makes of it says what holds."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Softmax", ["x"], ["y"])], "net", [x], [y])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid(*pair) for pair in versions.items()], ir_version=8)
    one_axis = np.allclose(outputs_of(proto, {"x": np.zeros((1, 2, 2), np.float32)})[0].sum(-1), 1)
    model = Model.load(proto)
    assert (model.opset, model.skeleton().opset_import[0].version) == ((13, 13) if one_axis else (11, 11))
