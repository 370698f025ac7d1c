"""Names that are hard to print, to store or to trust."""

from __future__ import annotations

import onnx

from tests.damage.draft import EITHER, KEPT, Draft, damage


def rename(d: Draft, new: str) -> None:
    """Rename a tensor that a node makes, everywhere in the main graph, and a node."""
    read = {name for node in d.graph.node for name in node.input}
    node = d.one(n for n in d.graph.node if n.output and n.output[0] in read)
    old = node.output[0]
    node.name = new
    for other in d.graph.node:
        other.output[:] = [new if n == old else n for n in other.output]
        other.input[:] = [new if n == old else n for n in other.input]
        for attribute in other.attribute:
            for inner in attribute.g.node:
                inner.input[:] = [new if n == old else n for n in inner.input]
    for value in (*d.graph.value_info, *d.graph.output):
        value.name = new if value.name == old else value.name


def rename_output(d: Draft, new: str) -> None:
    old = d.graph.output[0].name
    for node in d.graph.node:
        node.output[:] = [new if n == old else n for n in node.output]
        node.input[:] = [new if n == old else n for n in node.input]
    d.graph.output[0].name = new


def rename_weight(d: Draft, new: str) -> None:
    tensor = d.weight(least=0)
    old, tensor.name = tensor.name, new
    for node in d.graph.node:
        node.input[:] = [new if n == old else n for n in node.input]
    for value in d.graph.input:
        value.name = new if value.name == old else value.name


@damage(KEPT, on="conv classifier attention branches", count=3)
def names_with_control_characters(d: Draft) -> None:
    rename(d, "a\x1b[31mred\r\nerror[GO000]: forged\x07")


@damage(KEPT, on="conv classifier attention branches", count=2)
def an_output_with_control_characters(d: Draft) -> None:
    rename_output(d, "y\nwritten: /etc/passwd\x1b]0;title\x07")


@damage(KEPT, on="conv classifier attention branches", count=2)
def a_weight_with_control_characters(d: Draft) -> None:
    rename_weight(d, "w\0\t\x7f\u202e")


@damage(KEPT, on="conv classifier attention branches", count=3)
def names_with_path_separators(d: Draft) -> None:
    rename_weight(d, "../../etc/passwd")
    rename(d, "C:\\temp/..//x")


@damage(KEPT, on="conv classifier attention", count=2)
def names_of_one_megabyte(d: Draft) -> None:
    rename(d, "n" * 2**20)


@damage(KEPT, on="conv classifier attention", count=2)
def names_from_all_over_the_world(d: Draft) -> None:
    rename(d, "卷积/слой/طبقة/🙂")
    rename_weight(d, "poids é")


@damage(KEPT, on="conv classifier attention", count=2)
def names_in_markup(d: Draft) -> None:
    rename(d, "[bold red]x[/bold red]<b>&amp;{0}%s%n`$(id)`")


@damage(KEPT, on="conv classifier attention", count=2)
def names_that_look_like_those_of_rewrites(d: Draft) -> None:
    rename(d, "weight_1")
    rename_weight(d, "weight")


@damage(KEPT, on="conv classifier attention", count=2)
def names_of_one_space(d: Draft) -> None:
    rename(d, " ")


def not_utf8(raw: bytes, name: str) -> bytes:
    """The same bytes with the name's last character no UTF-8: same length, so the message stays whole."""
    return raw.replace(name.encode(), name.encode()[:-1] + b"\xff")


@damage(EITHER)
def names_that_are_no_text(d: Draft) -> None:
    rename(d, "spoiled_name_")
    d.raw = not_utf8(d.bytes(), "spoiled_name_")


@damage(EITHER)
def an_operator_that_is_no_text(d: Draft) -> None:
    node = d.node()
    node.op_type = "Spoiled_operator_"
    d.raw = not_utf8(d.bytes(), "Spoiled_operator_")


@damage(EITHER, on="conv classifier", count=2)
def a_string_attribute_that_is_no_text(d: Draft) -> None:
    d.node().attribute.append(onnx.AttributeProto(name="note", type=onnx.AttributeProto.STRING, s=b"\xff\xfe\x00"))


@damage(EITHER, on="conv classifier", count=2)
def documentation_that_is_no_text(d: Draft) -> None:
    d.proto.doc_string = "spoiled_text_"
    d.raw = not_utf8(d.bytes(), "spoiled_text_")


@damage(KEPT, on="conv classifier", count=2)
def documentation_of_ten_megabytes(d: Draft) -> None:
    d.proto.doc_string = "d" * 10 * 2**20


@damage(EITHER, on="classifier", count=2)
def a_symbol_with_control_characters(d: Draft) -> None:
    d.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N\x1b[2J\n"


@damage(EITHER)
def an_operator_with_control_characters(d: Draft) -> None:
    d.node().op_type = "Conv\x1b[31m\nerror[GO001]: forged"
