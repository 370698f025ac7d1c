"""Damage to the wiring: nodes, names, cycles, duplicates, scopes."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from tests.damage.draft import EITHER, REFUSED, Draft, Skip, damage


def inner(d: Draft) -> list[onnx.NodeProto]:
    """The nodes whose first output another node reads."""
    read = {name for node in d.graph.node for name in node.input}
    return [node for node in d.graph.node if node.output and node.output[0] in read]


def body(d: Draft) -> onnx.GraphProto:
    """A subgraph."""
    return d.one(a for n in d.graph.node for a in n.attribute if a.type == onnx.AttributeProto.GRAPH).g


@damage(REFUSED, count=8)
def a_node_is_missing(d: Draft) -> None:
    d.graph.node.remove(d.one(inner(d)))


@damage(REFUSED)
def all_nodes_are_missing(d: Draft) -> None:
    del d.graph.node[:]


@damage(EITHER)
def the_last_nodes_are_missing(d: Draft) -> None:
    del d.graph.node[len(d.graph.node) // 2 :]


@damage(REFUSED, on="conv classifier listed opset9 half attention", count=6)
def a_cycle(d: Draft) -> None:
    node = last = d.one(inner(d))
    for _ in range(d.rng.randrange(1, 4)):
        last = next((n for n in d.graph.node if last.output[0] in n.input), last)
    node.input[0] = last.output[0]


@damage(REFUSED)
def a_node_that_reads_itself(d: Draft) -> None:
    node = d.one(n for n in d.graph.node if n.input)
    node.input[0] = node.output[0]


@damage(REFUSED, count=6)
def a_dangling_input(d: Draft) -> None:
    d.one(n for n in d.graph.node if n.input).input[0] = "nowhere"


@damage(REFUSED)
def a_dangling_output(d: Draft) -> None:
    d.graph.output[0].name = "nowhere"


@damage(REFUSED)
def an_initializer_is_missing(d: Draft) -> None:
    read = {name for node in d.graph.node for name in node.input}
    listed = {v.name for v in d.graph.input}
    d.graph.initializer.remove(d.one(t for t in d.graph.initializer if t.name in read and t.name not in listed))


@damage(REFUSED)
def an_input_is_missing(d: Draft) -> None:
    d.graph.input.remove(d.graph.input[0])


@damage(EITHER, on="listed")
def a_weight_that_is_only_listed(d: Draft) -> None:
    """What was a weight becomes an input that somebody has to feed."""
    d.graph.initializer.remove(d.weight())


@damage(REFUSED)
def a_node_twice(d: Draft) -> None:
    d.graph.node.append(d.node())


@damage(REFUSED)
def a_name_produced_twice(d: Draft) -> None:
    first, second = d.graph.node[0], d.graph.node[-1]
    second.output[0] = first.output[0]


@damage(REFUSED)
def one_node_with_equal_outputs(d: Draft) -> None:
    node = d.node("Split", "Dropout", "BatchNormalization", "MaxPool", "LayerNormalization")
    node.output[:] = [node.output[0], node.output[0]]


@damage(REFUSED)
def a_node_that_produces_an_input(d: Draft) -> None:
    d.graph.node[-1].output[0] = d.graph.input[0].name


@damage(REFUSED)
def a_node_that_produces_an_initializer(d: Draft) -> None:
    d.add("Identity", [d.graph.input[0].name], [d.weight(least=0).name])


@damage(REFUSED)
def an_initializer_twice(d: Draft) -> None:
    d.graph.initializer.append(d.weight(least=0))


@damage(REFUSED)
def an_input_twice(d: Draft) -> None:
    d.graph.input.append(d.graph.input[0])


@damage(EITHER)
def an_output_twice(d: Draft) -> None:
    d.graph.output.append(d.graph.output[0])


@damage(REFUSED)
def an_attribute_twice(d: Draft) -> None:
    node = d.one(n for n in d.graph.node if n.attribute)
    node.attribute.append(node.attribute[0])


@damage(EITHER)
def a_value_info_twice(d: Draft) -> None:
    for shape in ([1, 2], [3, 4, 5]):
        d.graph.value_info.append(helper.make_tensor_value_info(d.graph.node[0].output[0], TensorProto.FLOAT, shape))


@damage(EITHER)
def nodes_of_one_name(d: Draft) -> None:
    for node in d.graph.node:
        node.name = "same"


@damage(REFUSED)
def no_outputs(d: Draft) -> None:
    del d.graph.output[:]


@damage(REFUSED)
def an_empty_graph(d: Draft) -> None:
    d.graph.Clear()


@damage(REFUSED)
def an_empty_graph_with_a_name(d: Draft) -> None:
    d.graph.Clear()
    d.graph.name = "net"


@damage(REFUSED)
def a_node_without_an_operator(d: Draft) -> None:
    d.node().op_type = ""


@damage(EITHER)
def a_node_without_outputs(d: Draft) -> None:
    d.add("Identity", [d.graph.input[0].name], [])


@damage(REFUSED)
def a_node_whose_outputs_have_no_names(d: Draft) -> None:
    d.one(inner(d)).output[0] = ""


@damage(EITHER)
def an_output_without_a_name(d: Draft) -> None:
    d.graph.output.add()


@damage(EITHER)
def an_input_without_a_name(d: Draft) -> None:
    d.graph.input.append(helper.make_tensor_value_info("", TensorProto.FLOAT, [1]))


@damage(EITHER)
def an_initializer_without_a_name(d: Draft) -> None:
    d.graph.initializer.append(helper.make_tensor("", TensorProto.FLOAT, [1], [1.0]))


@damage(EITHER)
def two_operators_swapped(d: Draft) -> None:
    first, second = d.node(), d.node()
    if first.op_type == second.op_type:
        raise Skip
    first.op_type, second.op_type = second.op_type, first.op_type


@damage(EITHER, count=6)
def two_inputs_swapped(d: Draft) -> None:
    node = d.one(n for n in d.graph.node if len(n.input) > 1)
    node.input[0], node.input[1] = node.input[1], node.input[0]


@damage(EITHER, count=6)
def inputs_shuffled_across_the_graph(d: Draft) -> None:
    """The names stay known, the wiring means nothing any more."""
    names = [name for node in d.graph.node for name in node.input]
    for node in d.graph.node:
        node.input[:] = [d.rng.choice(names) for _ in node.input]


@damage(EITHER, on="branches")
def a_subgraph_that_hides_an_outer_name(d: Draft) -> None:
    graph = body(d)
    old, new = graph.node[0].output[0], d.graph.node[0].output[0]
    for node in graph.node:
        node.output[:] = [new if n == old else n for n in node.output]
        node.input[:] = [new if n == old else n for n in node.input]
    for output in graph.output:
        output.name = new if output.name == old else output.name


@damage(EITHER, on="branches")
def a_subgraph_with_an_initializer_of_an_outer_name(d: Draft) -> None:
    body(d).initializer.append(helper.make_tensor("x", TensorProto.FLOAT, [1, 4], [1.0] * 4))


@damage(REFUSED, on="branches")
def a_subgraph_without_outputs(d: Draft) -> None:
    del body(d).output[:]


@damage(REFUSED, on="branches")
def a_subgraph_without_nodes(d: Draft) -> None:
    del body(d).node[:]


@damage(REFUSED, on="branches")
def a_subgraph_that_reads_a_later_node(d: Draft) -> None:
    d.add("Identity", [d.graph.output[0].name], ["later"])
    body(d).node[0].input[0] = "later"


@damage(REFUSED, on="branches")
def a_subgraph_that_reads_its_own_node(d: Draft) -> None:
    for node in d.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                attribute.g.node[-1].input[0] = node.output[0]


@damage(REFUSED, on="branches")
def the_graph_reads_a_name_of_a_subgraph(d: Draft) -> None:
    d.add("Identity", [body(d).node[0].output[0]], ["leaked"])
    d.returns("leaked")


@damage(EITHER, on="branches")
def a_subgraph_that_returns_an_outer_tensor(d: Draft) -> None:
    body(d).output[-1].name = "h"


@damage(REFUSED, on="branches")
def a_branch_is_missing(d: Draft) -> None:
    del d.node("If").attribute[0]


@damage(REFUSED, on="branches")
def branches_with_another_number_of_outputs(d: Draft) -> None:
    graph = d.node("If").attribute[0].g
    graph.output.append(helper.make_tensor_value_info(graph.node[0].output[0], TensorProto.FLOAT, None))


@damage(REFUSED, on="branches")
def a_loop_body_with_too_few_inputs(d: Draft) -> None:
    del d.node("Loop").attribute[0].g.input[1:]


@damage(EITHER, on="branches")
def branches_of_two_types(d: Draft) -> None:
    graph = d.node("If").attribute[0].g
    name = graph.output[0].name
    graph.node.append(helper.make_node("Cast", [name], ["as_int"], to=TensorProto.INT64))
    graph.output[0].CopyFrom(helper.make_tensor_value_info("as_int", TensorProto.INT64, [1, 4]))
