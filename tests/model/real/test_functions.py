"""Local functions: called from the graph, from bodies and from one another, with attributes, overloads and borrowed names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from tests.model.real.check import suite
from tests.model.real.oracle import Real, model_of, value, weight

OWN = "org.example"


def function(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    *,
    inputs: Sequence[str] = ("a",),
    outputs: Sequence[str] = ("b",),
    attributes: Sequence[str] = (),
    domain: str = OWN,
    opset: int = 17,
) -> onnx.FunctionProto:
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(OWN, 1)] if domain else [])]
    made = helper.make_function(domain, name, list(inputs), list(outputs), list(nodes), imports)
    made.attribute.extend(attributes)
    return made


def call(name: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = OWN, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(name, list(inputs), list(outputs), domain=domain, **attributes)


def framed(
    nodes: Sequence[onnx.NodeProto], *functions: onnx.FunctionProto, more: Sequence[onnx.ValueInfoProto] = (), ir: int = 10
) -> onnx.ModelProto:
    """conv -> ``nodes`` (from "x1" to "y1") -> conv, so that fold and prune have something beside the function."""
    inner = [
        helper.make_node("Conv", ["x", "w1"], ["x0"], pads=[1] * 4),
        helper.make_node("BatchNormalization", ["x0", "s", "s", "s", "s"], ["x1"]),
        *nodes,
        helper.make_node("Conv", ["y1", "w2"], ["y"]),
    ]
    shape = [1, 4, 6, 6]
    graph = helper.make_graph(inner, "g", [value("x", shape=shape), *more], [value("y", shape=shape)])
    weight(graph, "w1", 16, 4, 3, 3)
    weight(graph, "w2", 4, 16, 1, 1)
    graph.initializer.append(numpy_helper.from_array(np.linspace(0.5, 1, 16, dtype=np.float32), "s"))
    model = model_of(graph, 17, ir, org_example=1)
    model.functions.extend(functions)
    return model


def swish(domain: str = OWN, name: str = "Silu") -> onnx.FunctionProto:
    nodes = [helper.make_node("Sigmoid", ["a"], ["g"]), helper.make_node("Mul", ["a", "g"], ["b"])]
    return function(name, nodes, domain=domain)


def called() -> onnx.ModelProto:
    return framed([call("Silu", ["x1"], ["y1"])], swish())


def called_in_a_body() -> onnx.ModelProto:
    bodies = {
        "then_branch": helper.make_graph([call("Silu", ["x1"], ["r"])], "t", [], [value("r")]),
        "else_branch": helper.make_graph([helper.make_node("Relu", ["x1"], ["q"])], "e", [], [value("q")]),
    }
    node = helper.make_node("If", ["c"], ["y1"], **bodies)
    return framed([node], swish(), more=[value("c", TensorProto.BOOL, [])])


def calling_one_another() -> onnx.ModelProto:
    twice = function("Twice", [call("Silu", ["a"], ["m"]), call("Silu", ["m"], ["b"])])
    return framed([call("Twice", ["x1"], ["y1"])], twice, swish())


def with_attributes() -> onnx.ModelProto:
    """One attribute without and one with a default; the body refers to both."""
    leaky, clip = helper.make_node("LeakyRelu", ["a"], ["m"]), helper.make_node("Elu", ["m"], ["b"])
    for node, attribute, source in ((leaky, "alpha", "slope"), (clip, "alpha", "bend")):
        node.attribute.append(AttributeProto(name=attribute, ref_attr_name=source, type=AttributeProto.FLOAT))
    made = function("Bent", [leaky, clip], attributes=["slope"])
    made.attribute_proto.append(helper.make_attribute("bend", 0.5))
    return framed([call("Bent", ["x1"], ["m1"], slope=0.25), call("Bent", ["m1"], ["y1"], slope=0.1, bend=2.0)], made)


def overloaded() -> onnx.ModelProto:
    """Two functions of one name; the call names the overload."""
    first, second = swish(), function("Silu", [helper.make_node("Tanh", ["a"], ["b"])])
    first.overload, second.overload = "smooth", "flat"
    nodes = [call("Silu", ["x1"], ["m1"]), call("Silu", ["m1"], ["y1"])]
    nodes[0].overload, nodes[1].overload = "smooth", "flat"
    return framed(nodes, first, second)


def borrowed_name() -> onnx.ModelProto:
    """A Relu of its own domain that is no Relu; two of them in a row are not idempotent."""
    made = function("Relu", [helper.make_node("Neg", ["a"], ["b"])])
    return framed([call("Relu", ["x1"], ["m1"]), call("Relu", ["m1"], ["m2"]), call("Relu", ["m2"], ["y1"])], made)


def standard_name() -> onnx.ModelProto:
    """A function under the name of a standard operator and in its domain. The runtime goes by the standard operator."""
    made = function("Identity", [helper.make_node("Neg", ["a"], ["b"])], domain="")
    del made.opset_import[:]
    made.opset_import.append(helper.make_opsetid("", 17))
    return framed([call("Identity", ["x1"], ["y1"], domain="")], made)


def several_outputs() -> onnx.ModelProto:
    """The second output has no reader, an optional input is left out."""
    nodes = [helper.make_node("Clip", ["a", "low", "high"], ["b"]), helper.make_node("Neg", ["b"], ["c"])]
    made = function("Both", nodes, inputs=("a", "low", "high"), outputs=("b", "c"))
    model = framed([call("Both", ["x1", "", "cap"], ["y1", ""])], made)
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "cap"))
    return model


def of_constants() -> onnx.ModelProto:
    """All operands of a call are constant: not for us to compute."""
    nodes = [call("Silu", ["k"], ["k1"]), helper.make_node("Mul", ["x1", "k1"], ["y1"])]
    model = framed(nodes, swish())
    weight(model.graph, "k", 1)
    return model


def never_called() -> onnx.ModelProto:
    return framed([helper.make_node("Relu", ["x1"], ["y1"])], swish(), swish(name="Spare"))


def of_another_opset() -> onnx.ModelProto:
    """The body counts in opset 11, where Squeeze and Unsqueeze have attributes."""
    nodes = [helper.make_node("Unsqueeze", ["a"], ["m"], axes=[0]), helper.make_node("Squeeze", ["m"], ["b"], axes=[0])]
    return framed([call("There", ["x1"], ["y1"])], function("There", nodes, opset=11))


def with_a_body() -> onnx.ModelProto:
    """A function whose own If captures a tensor of the function."""
    bodies = {
        "then_branch": helper.make_graph([helper.make_node("Neg", ["m"], ["r"])], "t", [], [value("r")]),
        "else_branch": helper.make_graph([helper.make_node("Relu", ["m"], ["q"])], "e", [], [value("q")]),
    }
    nodes = [helper.make_node("Abs", ["a"], ["m"]), helper.make_node("If", ["c"], ["b"], **bodies)]
    made = function("Chosen", nodes, inputs=("a", "c"))
    return framed([call("Chosen", ["x1", "c"], ["y1"])], made, more=[value("c", TensorProto.BOOL, [])])


def same_twice() -> onnx.ModelProto:
    """Two equal calls may both draw numbers, for all that is known: they are not merged."""
    made = function("Noise", [helper.make_node("RandomNormalLike", ["a"], ["n"]), helper.make_node("Sub", ["n", "n"], ["b"])])
    nodes = [call("Noise", ["x1"], ["p"]), call("Noise", ["x1"], ["q"]), helper.make_node("Add", ["p", "q"], ["y1"])]
    return framed(nodes, made)


CASES = {
    "called in the graph": Real(called, kept="Silu", gone="BatchNormalization"),
    "called in a body": Real(called_in_a_body, kept="Silu If", gone="BatchNormalization"),
    "calling one another": Real(calling_one_another, kept="Twice"),
    "references to attributes": Real(with_attributes, kept="Bent"),
    "overloads": Real(overloaded, kept="Silu"),
    "a borrowed name": Real(borrowed_name, kept="Relu"),
    "a standard operator redefined": Real(standard_name),
    "several outputs, inputs left out": Real(several_outputs, kept="Both"),
    "of constants": Real(of_constants, kept="Silu", told="not-evaluated"),
    "never called": Real(never_called),
    "a body of another opset": Real(of_another_opset, runs=False, reference=True, kept="There"),
    "a body with an If": Real(with_a_body, kept="Chosen"),
    "equal calls": Real(same_twice, kept="Noise"),
}

test_functions = suite(CASES)
