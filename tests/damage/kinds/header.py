"""Damage to what a model says of itself: opsets, IR version, metadata."""

from __future__ import annotations

from onnx import helper

from tests.damage.draft import EITHER, REFUSED, Draft, Skip, damage


def opset(d: Draft, version: int) -> None:
    d.proto.opset_import[0].version = version


@damage(REFUSED)
def opset_zero(d: Draft) -> None:
    opset(d, 0)


@damage(REFUSED)
def opset_negative(d: Draft) -> None:
    opset(d, -1)


@damage(REFUSED)
def opset_999(d: Draft) -> None:
    opset(d, 999)


@damage(REFUSED)
def opset_of_64_bits(d: Draft) -> None:
    opset(d, 2**63 - 1)


@damage(REFUSED)
def opset_missing(d: Draft) -> None:
    del d.proto.opset_import[:]


@damage(EITHER)
def opset_without_a_version(d: Draft) -> None:
    d.proto.opset_import[0].ClearField("version")


@damage(REFUSED)
def opset_of_another_domain_alone(d: Draft) -> None:
    del d.proto.opset_import[:]
    d.proto.opset_import.append(helper.make_opsetid("org.elsewhere", 1))


@damage(EITHER)
def opset_twice(d: Draft) -> None:
    d.proto.opset_import.append(helper.make_opsetid("", 9))


@damage(EITHER)
def opset_twice_by_two_names(d: Draft) -> None:
    d.proto.opset_import.append(helper.make_opsetid("ai.onnx", 11))


@damage(EITHER)
def opset_too_old_for_the_operators(d: Draft) -> None:
    opset(d, 6)


@damage(EITHER)
def opset_too_new_for_the_operators(d: Draft) -> None:
    opset(d, 21)


@damage(EITHER)
def ir_zero(d: Draft) -> None:
    d.proto.ir_version = 0


@damage(EITHER)
def ir_missing(d: Draft) -> None:
    d.proto.ClearField("ir_version")


@damage(EITHER)
def ir_two(d: Draft) -> None:
    d.proto.ir_version = 2


@damage(REFUSED)
def ir_99(d: Draft) -> None:
    d.proto.ir_version = 99


@damage(REFUSED)
def ir_negative(d: Draft) -> None:
    d.proto.ir_version = -3


@damage(EITHER)
def metadata_twice(d: Draft) -> None:
    for value in ("a", "b"):
        d.proto.metadata_props.add(key="key", value=value)


@damage(REFUSED)
def no_graph(d: Draft) -> None:
    d.proto.ClearField("graph")


@damage(EITHER, on="functions")
def function_missing(d: Draft) -> None:
    del d.proto.functions[:]


@damage(EITHER, on="functions")
def function_twice(d: Draft) -> None:
    d.proto.functions.append(d.proto.functions[0])


@damage(EITHER, on="functions", count=2)
def function_that_calls_itself(d: Draft) -> None:
    node = d.proto.functions[0].node[0]
    node.op_type, node.domain = "Layer", "org.example"
    node.input[:] = ["v", "m", "c"]
    d.proto.functions[0].opset_import.append(helper.make_opsetid("org.example", 1))


@damage(EITHER, on="functions", count=2)
def functions_that_call_each_other(d: Draft) -> None:
    first = d.proto.functions[0]
    second = d.proto.functions.add()
    second.CopyFrom(first)
    second.name = "Other"
    for function, callee in ((first, "Other"), (second, "Layer")):
        function.node[0].op_type, function.node[0].domain = callee, "org.example"
        function.node[0].input[:] = ["v", "m", "c"]
        function.opset_import.append(helper.make_opsetid("org.example", 1))


@damage(EITHER, on="functions", count=2)
def function_without_outputs(d: Draft) -> None:
    del d.proto.functions[0].output[:]


@damage(EITHER, on="functions", count=2)
def function_with_a_dangling_name(d: Draft) -> None:
    d.proto.functions[0].node[0].input[0] = "nowhere"


@damage(EITHER, on="functions", count=2)
def function_without_opsets(d: Draft) -> None:
    del d.proto.functions[0].opset_import[:]


@damage(EITHER, on="functions", count=2)
def function_with_another_opset(d: Draft) -> None:
    d.proto.functions[0].opset_import[0].version = 6


@damage(EITHER, on="functions", count=2)
def function_with_a_cycle(d: Draft) -> None:
    function = d.proto.functions[0]
    function.node[0].input[0] = function.node[-1].output[0]


@damage(EITHER, on="functions", count=2)
def function_for_a_standard_operator(d: Draft) -> None:
    """A function named Relu in the default domain that is no Relu."""
    function = d.proto.functions.add()
    function.CopyFrom(helper.make_function("", "Relu", ["v"], ["w"], [helper.make_node("Neg", ["v"], ["w"])], []))
    function.opset_import.append(helper.make_opsetid("", 17))


@damage(EITHER, on="functions", count=2)
def functions_that_double(d: Draft) -> None:
    """Thirty functions, each of which calls the one before twice: inlined, a thousand million nodes."""
    if d.proto.ir_version < 8:
        raise Skip
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("org.example", 1)]
    d.proto.functions.append(helper.make_function("org.example", "F0", ["v"], ["w"], [helper.make_node("Neg", ["v"], ["w"])], sets))
    for level in range(1, 31):
        call = f"F{level - 1}"
        nodes = [helper.make_node(call, [a], [b], domain="org.example") for a, b in (("v", "u"), ("u", "w"))]
        d.proto.functions.append(helper.make_function("org.example", f"F{level}", ["v"], ["w"], nodes, sets))
    d.add("F30", [d.graph.output[0].name], ["doubled"], domain="org.example")
    d.returns("doubled")
