"""The graphs inside of nodes: bodies of If, Loop and Scan.

Graphsurgeon's own way of asking costs as much for a node that has none as for one that has, and nearly all have none.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_graphsurgeon as gs


def bodies(node: gs.Node) -> list[gs.Graph]:
    """The bodies of ``node``."""
    return [value for value in node.attrs.values() if isinstance(value, gs.Graph)] if node.attrs else []


def bodies_within(node: gs.Node) -> Iterator[gs.Graph]:
    """These, and those of the nodes in them. (No graph contains itself: the reader's are trees.)"""
    stack = [node]
    while stack:
        for body in bodies(stack.pop()):
            yield body
            stack.extend(body.nodes)
