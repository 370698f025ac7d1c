"""Damage by depth and length: what recursion or quadratic work breaks on."""

from __future__ import annotations

from itertools import pairwise

from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, helper

from tests.damage.draft import EITHER, KEPT, REFUSED, Draft, damage

_GRAPH_FIELD, _OUTPUT_FIELD = 1, 12


def field(number: int, raw: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def nested(depth: int) -> bytes:
    """An If in an If in an If ..., as the bytes of a NodeProto: messages cannot be nested that deep by the library."""
    kind = helper.make_tensor_value_info("o", TensorProto.FLOAT, None).type
    node = NodeProto(op_type="Identity", input=["x"], output=["o0"]).SerializeToString()
    for level in range(depth):
        output = ValueInfoProto(name=f"o{level}", type=kind).SerializeToString()
        graph = field(1, node) + GraphProto(name="b").SerializeToString() + field(_OUTPUT_FIELD, output)
        else_graph = field(1, NodeProto(op_type="Identity", input=["x"], output=[f"e{level}"]).SerializeToString())
        else_output = ValueInfoProto(name=f"e{level}", type=kind).SerializeToString()
        else_graph += GraphProto(name="e").SerializeToString() + field(_OUTPUT_FIELD, else_output)
        node = NodeProto(op_type="If", input=["flag"], output=[f"o{level + 1}"]).SerializeToString()
        for name, raw in (("then_branch", graph), ("else_branch", else_graph)):
            head = AttributeProto(name=name, type=AttributeProto.GRAPH).SerializeToString()
            node += field(5, head + field(6, raw))
    return node


def deep_if(d: Draft, depth: int) -> None:
    shell = helper.make_graph(
        [],
        "deep",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4]),
            helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info(f"o{depth}", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(shell, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model.ClearField("graph")
    d.raw = model.SerializeToString() + field(7, field(1, nested(depth)) + shell.SerializeToString())


@damage(KEPT, on="branches", count=2)
def an_if_of_depth_10(d: Draft) -> None:
    deep_if(d, 10)


@damage(EITHER, on="branches", count=2)
def an_if_of_depth_30(d: Draft) -> None:
    deep_if(d, 30)


@damage(EITHER, on="branches", count=2)
def an_if_of_depth_100(d: Draft) -> None:
    """Deeper than protobuf reads, a hundred messages."""
    deep_if(d, 100)


@damage(REFUSED, on="branches", count=2)
def an_if_of_depth_2000(d: Draft) -> None:
    deep_if(d, 2000)


@damage(REFUSED, on="branches", count=1)
def groups_without_end(d: Draft) -> None:
    """A group in a group in a group: the oldest way to exhaust a protobuf parser."""
    d.raw = b"\x0b" * 100_000


@damage(REFUSED, on="branches", count=1)
def a_type_of_depth_2000(d: Draft) -> None:
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, [1]).SerializeToString()
    for _ in range(2000):
        kind = field(4, field(1, kind))
    value = ValueInfoProto(name="deep").SerializeToString() + field(2, kind)
    d.raw = d.bytes() + field(7, field(13, value))


def chain(d: Draft, length: int, op: str) -> None:
    """A chain behind the first output, which ends in the output's own name."""
    output = d.graph.output[0].name
    last = next(n for n in d.graph.node if output in n.output)
    start = "before_the_chain"
    last.output[list(last.output).index(output)] = start
    names = [start, *(f"chain{i}" for i in range(length - 1)), output]
    d.graph.node.extend(helper.make_node(op, [a], [b]) for a, b in pairwise(names))


@damage(KEPT, on="conv classifier attention functions", count=3)
def a_chain_of_5000_relus(d: Draft) -> None:
    chain(d, 5000, "Relu")


@damage(KEPT, on="conv classifier attention functions", count=2)
def a_chain_of_5000_identities(d: Draft) -> None:
    chain(d, 5000, "Identity")


@damage(EITHER, on="conv", count=2)
def a_chain_of_5000_negations(d: Draft) -> None:
    chain(d, 5000, "Neg")


@damage(KEPT, on="conv classifier", count=2)
def thousands_of_unused_nodes(d: Draft) -> None:
    for index in range(3000):
        d.graph.node.append(helper.make_node("Neg", [d.graph.input[0].name], [f"unused{index}"]))


@damage(KEPT, on="conv classifier", count=2)
def thousands_of_readers(d: Draft) -> None:
    """One tensor with three thousand readers, and a sum of all of them."""
    names = [f"reader{i}" for i in range(3000)]
    d.graph.node.extend(helper.make_node("Abs", [d.graph.input[0].name], [n]) for n in names)
    d.graph.node.append(helper.make_node("Sum", names, ["all"]))
    d.returns("all")


@damage(KEPT, on="conv classifier", count=2)
def thousands_of_initializers(d: Draft) -> None:
    for index in range(3000):
        d.graph.initializer.append(helper.make_tensor(f"spare{index}", TensorProto.FLOAT, [2], [1.0, float(index)]))


@damage(KEPT, on="conv", count=2)
def thousands_of_outputs(d: Draft) -> None:
    for index in range(1000):
        d.graph.node.append(helper.make_node("Neg", [d.graph.input[0].name], [f"out{index}"]))
        d.returns(f"out{index}")
