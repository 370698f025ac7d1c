"""Operator sets beside the default one: onnxruntime's own, ai.onnx.ml, unknown ones, and sets that are not declared."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.model.real.check import suite
from tests.model.real.oracle import LOSSY, Real, text, value, weight

CONTRIB = ', "com.microsoft" : 1'
LEARN = ', "ai.onnx.ml" : 3'


def fused_conv(described: bool = True) -> onnx.ModelProto:
    model = text("""
        fused (float[1, 4, 6, 6] x) => (float[1, 4, 6, 6] y) {
            a = com.microsoft.FusedConv <activation = "Relu", kernel_shape = [1, 1]> (x, w1)
            b = Conv (a, w2)
            y = BatchNormalization (b, s, s, s, s)
        }
    """, more=CONTRIB)  # fmt: skip
    weight(model.graph, "w1", 16, 4, 1, 1)
    weight(model.graph, "w2", 4, 16, 1, 1)
    model.graph.initializer.append(numpy_helper.from_array(np.linspace(0.5, 1, 4, dtype=np.float32), "s"))
    if described:
        model.graph.value_info.append(value("a", shape=[1, 16, 6, 6]))
    return model


def gelu() -> onnx.ModelProto:
    model = text("""
        gelu (float[2, 8] x) => (float[2, 4] y) {
            a = MatMul (x, w1)
            b = com.microsoft.Gelu (a)
            c = com.microsoft.Gelu (a)
            d = Add (b, c)
            y = MatMul (d, w2)
        }
    """, more=CONTRIB)  # fmt: skip
    weight(model.graph, "w1", 8, 16)
    weight(model.graph, "w2", 16, 4)
    return model


def integer_add() -> onnx.ModelProto:
    model = text("""
        integers (float[2, 8] x) => (float[2, 8] y) {
            q = QuantizeLinear (x, s, z)
            r = com.microsoft.QLinearAdd (q, s, z, q, s, z, t, z)
            y = DequantizeLinear (r, t, z)
        }
    """, more=CONTRIB)  # fmt: skip
    for name, content in (("s", np.float32(0.05)), ("t", np.float32(0.1)), ("z", np.uint8(128))):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(content), name))
    return model


def contrib_of_constants() -> onnx.ModelProto:
    model = text("""
        contrib (float[2, 4] x) => (float[2, 4] y) {
            k = com.microsoft.Gelu (w)
            y = Mul (x, k)
        }
    """, more=CONTRIB)  # fmt: skip
    weight(model.graph, "w", 4)
    return model


def borrowed_in_contrib() -> onnx.ModelProto:
    """DequantizeLinear and Pad of com.microsoft are other operators than ONNX's of these names."""
    model = text("""
        borrowed (float[1, 2, 4] x) => (float[1, 2, 4] y, float[1, 2, 4] z) {
            y = com.microsoft.Pad (x, none)
            q = com.microsoft.QuantizeLinear (x, s, u)
            z = com.microsoft.DequantizeLinear (q, s, u)
        }
    """, more=CONTRIB)  # fmt: skip
    for name, content in (("none", np.zeros(6, np.int64)), ("s", np.float32(0.1)), ("u", np.uint16(30000))):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(content), name))
    return model


def classifier() -> onnx.ModelProto:
    """A linear classifier with its map of probabilities."""
    nodes = [
        helper.make_node("Add", ["x", "zero"], ["x1"]),
        helper.make_node(
            "LinearClassifier", ["x1"], ["label", "scores"], domain="ai.onnx.ml", classlabels_strings=["a", "b", "c"],
            coefficients=np.linspace(-1, 1, 12).tolist(), intercepts=[0.0, 0.1, -0.1], post_transform="SOFTMAX",
        ),
        helper.make_node("ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml", classlabels_strings=["a", "b", "c"]),
    ]  # fmt: skip
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    outputs = [value("label", TensorProto.STRING, ["N"]), helper.make_value_info("probabilities", kind)]
    graph = helper.make_graph(nodes, "g", [value("x", shape=["N", 4])], outputs)
    graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "zero"))
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def scaler_of_constants() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Scaler", ["k"], ["s"], domain="ai.onnx.ml", offset=[0.5], scale=[2.0]),
        helper.make_node("Add", ["x", "s"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [value("x", shape=[2, 3])], [value("y", shape=[2, 3])])
    weight(graph, "k", 1, 3)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def spelt_out() -> onnx.ModelProto:
    """The default domain under both of its names, in one model."""
    model = text("""
        spelt (float[1, 4, 6, 6] x) => (float[1, 4, 6, 6] y) {
            a = Conv (x, w)
            b = BatchNormalization (a, s, s, s, s)
            c = Identity (b)
            y = Relu (c)
        }
    """)
    weight(model.graph, "w", 4, 4, 1, 1)
    model.graph.initializer.append(numpy_helper.from_array(np.linspace(0.5, 1, 4, dtype=np.float32), "s"))
    for node in model.graph.node[::2]:
        node.domain = "ai.onnx"
    return model


def spelt_out_only() -> onnx.ModelProto:
    """Declared as ai.onnx, used as the empty domain."""
    model = spelt_out()
    model.opset_import[0].domain = "ai.onnx"
    return model


def declared_twice() -> onnx.ModelProto:
    model = spelt_out()
    model.opset_import.append(helper.make_opsetid("ai.onnx", 17))
    return model


def unknown(declared: bool = True, typed: bool = True) -> onnx.ModelProto:
    """An operator that nobody has, between two convolutions."""
    model = text("""
        unknown (float[1, 4, 6, 6] x) => (float[1, 4, 6, 6] y) {
            a = Conv (x, w1)
            b = BatchNormalization (a, s, s, s, s)
            c = Identity (b)
            d = org.nowhere.Mystery <depth = 3, names = ["a"]> (c, w1)
            e = org.nowhere.Mystery (c, w1)
            f = Add (d, e)
            g = Relu (f)
            y = Conv (g, w2)
        }
    """, more=', "org.nowhere" : 2')  # fmt: skip
    weight(model.graph, "w1", 16, 4, 1, 1)
    weight(model.graph, "w2", 4, 16, 1, 1)
    model.graph.initializer.append(numpy_helper.from_array(np.linspace(0.5, 1, 16, dtype=np.float32), "s"))
    if not declared:
        del model.opset_import[1]
    if typed:
        model.graph.value_info.extend(value(name, shape=[1, 16, 6, 6]) for name in "de")
    return model


def undeclared() -> onnx.ModelProto:
    """Contrib operators without their operator set: runtimes refuse it."""
    model = gelu()
    del model.opset_import[1]
    return model


def unknown_in_a_body() -> onnx.ModelProto:
    return text("""
        body (float[2, 3] x, bool c) => (float[2, 3] y) {
            a = Identity (x)
            y = If (c) <
                then_branch = t () => (float[2, 3] r) { r = org.nowhere.Mystery (a) },
                else_branch = e () => (float[2, 3] r) { r = Relu (a) }
            >
        }
    """, more=', "org.nowhere" : 2')  # fmt: skip


def preview() -> onnx.ModelProto:
    """An operator of the training preview."""
    nodes = [helper.make_node("Adagrad", ["r", "t", "x", "g", "h"], ["n", "m"], domain="ai.onnx.preview.training", epsilon=0.1)]
    inputs = [value("r", shape=[]), value("t", TensorProto.INT64, []), *(value(n, shape=[2]) for n in "xgh")]
    graph = helper.make_graph(nodes, "g", inputs, [value(n, shape=[2]) for n in "nm"])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.preview.training", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


CASES = {
    "FusedConv of onnxruntime": Real(fused_conv, kept="FusedConv", gone="BatchNormalization"),
    "FusedConv without a described result": Real(lambda: fused_conv(described=False), kept="FusedConv", told="unknown-shape"),
    "Gelu of onnxruntime": Real(gelu, kept="Gelu"),
    "integer operators of onnxruntime": Real(integer_add, kept="QLinearAdd QuantizeLinear DequantizeLinear"),
    "a contrib operator of constants": Real(contrib_of_constants, kept="Gelu", told="not-evaluated"),
    "contrib operators under standard names": Real(borrowed_in_contrib, kept="Pad QuantizeLinear DequantizeLinear"),
    "a classifier with strings and a map": Real(classifier, kept="LinearClassifier ZipMap"),
    "ai.onnx.ml of constants": Real(scaler_of_constants, kept="Scaler", told="not-evaluated"),
    "the default domain spelt out": Real(spelt_out, gone="BatchNormalization Identity"),
    "only spelt out": Real(spelt_out_only, gone="BatchNormalization Identity"),
    "declared under both names": Real(declared_twice, gone="BatchNormalization Identity"),
    "an unknown operator": Real(unknown, runs=False, kept="Mystery", gone="BatchNormalization Identity"),
    "an unknown operator without types": Real(lambda: unknown(typed=False), runs=False, kept="Mystery", gone="BatchNormalization"),
    "an unknown operator, verified": Real(unknown, refused="GO030", lossy=dict.fromkeys(LOSSY, "GO030")),
    "an unknown operator, not declared": Real(lambda: unknown(declared=False), runs=False, kept="Mystery"),
    "operators of a set that is not declared": Real(undeclared, runs=False, kept="Gelu"),
    "an unknown operator in a body": Real(unknown_in_a_body, runs=False, kept="Mystery", gone="Identity"),
    "the training preview": Real(preview, runs=False, kept="Adagrad"),
}

test_domains = suite(CASES)
