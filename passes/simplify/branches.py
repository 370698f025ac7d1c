"""If with a constant condition: the branch that is taken moves into the main graph.

The tensors that the branch defines get fresh names, since the scope of a name ends with its graph: two branches, or a branch and
the body of some Loop, may use the same one. Its nodes and constants move as they are; a result that the branch itself computes is
written under the If's output, one that it only hands on (an outer tensor, a constant) through an Identity, which the identities
then remove. The other branch goes.

What a branch hides from shape inference comes to light by this. ONNX wants scalars for Range, runtimes take vectors of one element
as well unless they can see them at load time; such operands are made scalars.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_graphsurgeon as gs

from graphopt.model import node_label
from graphopt.model.bodies import bodies_within
from graphopt.passes.simplify.editor import Editor, Raw
from graphopt.pipeline import Rewrite


def inline_branches(editor: Editor) -> list[Rewrite]:
    """Inline every If of the main graph whose condition is constant."""
    rewrites: list[Rewrite] = []
    moved: dict[int, list[gs.Node]] = {}
    outer: set[int] | None = None
    for node in editor.model.graph.nodes:
        taken = _taken(node, editor)
        if taken is None:
            continue
        name, branch = taken
        if outer is None:
            outer = {id(c) for c in editor.model.constants().values()}
        own = _defined(branch, outer)
        if any(_sparse(t) for t in own):
            continue
        label = node_label(node)
        for tensor in own:
            tensor.name = editor.model.fresh(tensor.name)
        moved[id(node)] = _inline(node, name, branch, editor)
        rewrites.append(
            Rewrite(label, f"its condition is constant: replaced by its {name.partition('_')[0]} branch", code="constant-branch")
        )
    if moved:
        nodes = list(editor.model.graph.nodes)
        editor.model.graph.nodes[:] = [n for node in nodes for n in [*moved.get(id(node), ()), node]]
        editor.model.edited()
    return rewrites


def _taken(node: gs.Node, editor: Editor) -> tuple[str, gs.Graph] | None:
    """The branch that is always taken, and its name."""
    if node.op != "If" or not editor.standard(node) or not node.inputs:
        return None
    condition = editor.constant(node.inputs[0])
    if condition is None or condition.size != 1:
        return None
    name = "then_branch" if condition.reshape(-1)[0] else "else_branch"
    branch = node.attrs.get(name)
    if not isinstance(branch, gs.Graph) or branch.inputs or len(branch.outputs) != len(node.outputs):
        return None
    return name, branch


def _sparse(tensor: gs.Tensor) -> bool:
    """A sparse initializer carries its name where it cannot be changed."""
    proto = getattr(tensor._values, "proto", None) if isinstance(tensor, gs.Constant) else None
    return isinstance(proto, onnx.SparseTensorProto)


def _inline(node: gs.Node, name: str, branch: gs.Graph, editor: Editor) -> list[gs.Node]:
    """The nodes that take the place of ``node``, which is left without outputs."""
    nodes = list(branch.nodes)
    made = {id(t) for n in nodes for t in n.outputs}
    outputs = list(node.outputs)
    # Out of the If first: when that is swept away, so is everything that still hangs on it.
    del node.attrs[name]
    Raw.clear(node.outputs)
    written: dict[int, gs.Tensor] = {}
    for out, result in zip(outputs, list(branch.outputs), strict=True):
        Raw.clear(out.inputs)
        if not out.name:
            continue
        if id(result) in made and id(result) not in written:
            editor.take_over(result, out)
            branch.outputs = [out if t is result else t for t in branch.outputs]
            written[id(result)] = out
        else:  # not the branch's own, or given a second time
            nodes.append(gs.Node("Identity", inputs=[written.get(id(result), result)], outputs=[out]))
    return nodes


def _defined(branch: gs.Graph, outer: set[int]) -> list[gs.Tensor]:
    """What belongs to the branch, each tensor once: outputs of its nodes, and the constants that it or a body inside it reads."""
    found: dict[int, gs.Tensor] = {}
    for node in branch.nodes:
        found.update((id(t), t) for t in node.outputs if t.name)
    read = [*branch.outputs, *(t for node in branch.nodes for t in _reads(node))]
    found.update((id(t), t) for t in read if isinstance(t, gs.Constant) and id(t) not in outer)
    return list(found.values())


def _reads(node: gs.Node) -> Iterator[gs.Tensor]:
    yield from node.inputs
    for body in bodies_within(node):
        yield from body.outputs
        for inner in body.nodes:
            yield from inner.inputs


def mend_ranges(editor: Editor) -> list[Rewrite]:
    """Give Range scalars where it has vectors of one element."""
    rewrites: list[Rewrite] = []
    for node in [n for n in editor.model.graph.nodes if n.op == "Range" and editor.standard(n)]:
        for index, tensor in enumerate(list(node.inputs)):
            if tensor.name and editor.shape(tensor) == (1,):
                model = editor.model
                scalar = model.variable(f"{tensor.name}_scalar")
                model.add("Squeeze", [tensor], [scalar], before=node)
                editor.set_input(node, index, scalar)
                rewrites.append(
                    Rewrite(node_label(node), f"operand '{tensor.name}' is one element: made a scalar", code="scalar-operand")
                )
    return rewrites
