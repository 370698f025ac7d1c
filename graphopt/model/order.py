"""The order of nodes, and which of them anybody needs. Both in time linear in nodes and edges."""

from __future__ import annotations

import heapq

import onnx_graphsurgeon as gs

from graphopt.model import links
from graphopt.model.bodies import bodies, bodies_within


def needed_by(node: gs.Node) -> list[gs.Tensor]:
    """Everything that a node reads: its inputs, and what its subgraphs take from outside."""
    tensors = list(node.inputs)
    for subgraph in bodies(node):
        tensors.extend(subgraph.outputs)
        for inner in subgraph.nodes:
            tensors.extend(needed_by(inner))
    return tensors


def sort_nodes(graph: gs.Graph) -> bool:
    """Stable topological order (Kahn's algorithm, earliest position first). True if anything moved."""
    made_by = {id(t): i for i, n in enumerate(graph.nodes) for t in n.outputs if t.name}
    needs = [{made_by[id(t)] for t in needed_by(n) if id(t) in made_by} for n in graph.nodes]
    if all(all(j < i for j in need) for i, need in enumerate(needs)):
        return False
    readers: list[list[int]] = [[] for _ in graph.nodes]
    for i, need in enumerate(needs):
        for j in need:
            readers[j].append(i)
    ready = [i for i, need in enumerate(needs) if not need]
    heapq.heapify(ready)
    order: list[int] = []
    left = [len(need) for need in needs]
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for j in readers[i]:
            left[j] -= 1
            if left[j] == 0:
                heapq.heappush(ready, j)
    nodes, placed = list(graph.nodes), set(order)
    graph.nodes[:] = [nodes[i] for i in order] + [n for i, n in enumerate(nodes) if i not in placed]
    return True


def sweep(graph: gs.Graph) -> int:
    """Remove the nodes that no graph output needs, directly or through others; their number is returned."""
    seen: set[int] = set()
    stack: list[gs.Tensor] = list(graph.outputs)
    while stack:
        for node in stack.pop().inputs:
            if id(node) not in seen:
                seen.add(id(node))
                stack.extend(needed_by(node))
    dead = [n for n in graph.nodes if id(n) not in seen]
    for node in dead:
        for owner in [node, *(inner for g in bodies_within(node) for inner in g.nodes)]:
            links.set_inputs(owner, [])
        links.set_outputs(node, [])
    if dead:
        graph.nodes[:] = [n for n in graph.nodes if id(n) in seen]
    return len(dead)
