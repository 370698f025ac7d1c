"""Einsum's equation with a letter for every axis.

``...`` stands for the axes that no letter names; they are aligned from the last. Without ``->`` the result has those axes first,
then the letters that occur once, in the order of the alphabet. (ONNX operator Einsum, 12, which follows numpy.einsum.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import onnx_graphsurgeon as gs

from graphopt.ops import attrs
from graphopt.ops.facts import Facts

DOTS = "..."

UNNAMED = 0x3B1
"""Where letters for axes that the equation does not name begin; equations are of Latin letters."""


def spelled(node: gs.Node, facts: Facts) -> tuple[Sequence[str], str] | None:
    """The letters of every operand, and of the result; None if a rank is not known or does not fit."""
    text = attrs.str_(node, "equation", "").replace(" ", "")
    left, arrow, result = text.partition("->")
    operands = left.split(",")
    if len(operands) != len(node.inputs):
        return None
    spare: list[int] = []
    for letters, tensor in zip(operands, node.inputs, strict=True):
        shape = facts.shape(tensor)
        if shape is None:
            return None
        spare.append(len(shape) - len(letters.replace(DOTS, "", 1)))
    if any(n < 0 or (n > 0 and DOTS not in letters) for n, letters in zip(spare, operands, strict=True)):
        return None
    widest = "".join(chr(UNNAMED + i) for i in range(max(spare)))
    if not arrow:
        once = sorted(c for c, n in Counter(left.replace(DOTS, "").replace(",", "")).items() if n == 1)
        result = DOTS + "".join(once)
    named = [letters.replace(DOTS, widest[len(widest) - n :]) for n, letters in zip(spare, operands, strict=True)]
    return named, result.replace(DOTS, widest)
