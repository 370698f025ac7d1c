"""What looks like damage and is none: these models must come through and compute the same."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.damage.bases import constant
from tests.damage.draft import EITHER, KEPT, Draft, Skip, damage


@damage(KEPT, count=8)
def nothing(d: Draft) -> None:
    """The bases themselves: an oracle that refuses these is no oracle."""


@damage(KEPT, on="conv classifier quantized listed functions attention opset9 half", count=6)
def unsorted_nodes(d: Draft) -> None:
    nodes = list(d.graph.node)
    d.rng.shuffle(nodes)
    del d.graph.node[:]
    d.graph.node.extend(nodes)


@damage(KEPT, on="conv classifier functions attention", count=4)
def stale_value_info(d: Draft) -> None:
    """A shape left behind by an edit. Runtimes warn of it and go on."""
    read = {name for node in d.graph.node for name in node.input}
    node = d.one(n for n in d.graph.node if n.output and n.output[0] in read)
    d.graph.value_info.append(helper.make_tensor_value_info("gone", TensorProto.FLOAT, [1, 2, 3]))
    d.graph.value_info.append(helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None))


@damage(KEPT)
def empty_node_names(d: Draft) -> None:
    for node in d.graph.node:
        node.name = ""


@damage(KEPT)
def an_unused_initializer(d: Draft) -> None:
    constant(d.proto, "spare", np.ones(5, np.float32))


@damage(KEPT, on="conv classifier branches functions attention", count=4)
def an_unused_input(d: Draft) -> None:
    d.graph.input.append(helper.make_tensor_value_info("spare", TensorProto.FLOAT, [2]))


@damage(KEPT, on="conv classifier branches functions attention", count=4)
def an_output_that_is_an_input(d: Draft) -> None:
    d.graph.output.append(d.graph.input[0])


@damage(KEPT, on="conv classifier branches functions attention", count=4)
def an_output_that_is_an_initializer(d: Draft) -> None:
    tensor = d.weight(least=0)
    d.returns(tensor.name, tensor.data_type, list(tensor.dims))


@damage(EITHER, on="conv classifier functions attention", count=3)
def all_outputs_are_inputs(d: Draft) -> None:
    del d.graph.node[:]
    del d.graph.output[:]
    d.graph.output.append(d.graph.input[0])


@damage(KEPT, on="conv classifier attention", count=3)
def no_inputs_at_all(d: Draft) -> None:
    """Everything is constant."""
    value = d.graph.input[0]
    shape = [dim.dim_value or 2 for dim in value.type.tensor_type.shape.dim]
    constant(d.proto, value.name, np.ones(shape, np.float32))
    d.graph.input.remove(value)


@damage(KEPT, on="conv classifier attention", count=3)
def weights_as_constant_nodes(d: Draft) -> None:
    for tensor in list(d.graph.initializer):
        d.add("Constant", [], [tensor.name], first=True, value=tensor)
    del d.graph.initializer[:]


@damage(KEPT, on="conv classifier attention opset9", count=3)
def an_initializer_that_may_be_overridden(d: Draft) -> None:
    tensor = d.weight()
    d.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))


@damage(KEPT, on="conv classifier attention", count=3)
def typed_data(d: Draft) -> None:
    tensor = d.weight(dtype=TensorProto.FLOAT, raw=True)
    value = numpy_helper.to_array(tensor)
    tensor.ClearField("raw_data")
    tensor.float_data.extend(value.reshape(-1).tolist())


@damage(KEPT, on="conv classifier attention", count=3)
def a_sparse_weight(d: Draft) -> None:
    tensor = d.weight(least=2, dtype=TensorProto.FLOAT, raw=True)
    value = np.array(numpy_helper.to_array(tensor))
    value[np.abs(value) < 0.5] = 0
    places = np.flatnonzero(value).astype(np.int64)
    made = d.graph.sparse_initializer.add()
    made.dims.extend(tensor.dims)
    made.values.CopyFrom(numpy_helper.from_array(value.reshape(-1)[places], tensor.name))
    made.indices.CopyFrom(numpy_helper.from_array(places, ""))
    d.graph.initializer.remove(tensor)


@damage(KEPT, on="conv classifier attention branches", count=3)
def an_unused_opset(d: Draft) -> None:
    d.proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))


@damage(KEPT, on="conv classifier attention", count=3)
def the_default_domain_by_its_long_name(d: Draft) -> None:
    d.node().domain = "ai.onnx"


@damage(KEPT, on="conv classifier attention opset9", count=3)
def metadata_everywhere(d: Draft) -> None:
    d.proto.metadata_props.add(key="author", value="someone")
    d.proto.doc_string, d.graph.doc_string = "a model", "a graph"
    for node in d.graph.node:
        node.doc_string = "a node"
        node.metadata_props.add(key="k", value="v")


@damage(KEPT, on="classifier", count=2)
def a_dynamic_batch_without_a_name(d: Draft) -> None:
    for value in (d.graph.input[0], d.graph.output[0]):
        value.type.tensor_type.shape.dim[0].Clear()


@damage(KEPT, on="conv classifier attention", count=3)
def a_weight_shared_by_two_nodes(d: Draft) -> None:
    first, second = _alike(d)
    second.input[1] = first.input[1]


def _alike(d: Draft):  # type: ignore[no-untyped-def]
    weights = {t.name: list(t.dims) for t in d.graph.initializer}
    nodes = [n for n in d.graph.node if n.op_type in ("Conv", "MatMul") and n.input[1] in weights]
    for first in nodes:
        for second in nodes:
            if first.input[1] != second.input[1] and weights[first.input[1]] == weights[second.input[1]]:
                return first, second
    raise Skip


@damage(KEPT, on="conv classifier attention", count=3)
def dead_ends(d: Draft) -> None:
    d.add("Neg", [d.graph.node[0].output[0]], ["dead"])
    d.add("Abs", ["dead"], ["deader"])
