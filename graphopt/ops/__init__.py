"""What each operator means, one row an operator: how much it computes, whether it is affine, how channels flow through it, and
how it is quantized.

Rows live in the file of their family (``conv``, ``linear``, ``elementwise``, ...), the rules that they name in the file of their
concern (``cost``, ``affine``, ``channels``). An operator without a row is opaque: not folded, channels frozen, cost unknown.
"""

from graphopt.ops.facts import Facts
from graphopt.ops.row import QuantRule, Role, Row
from graphopt.ops.table import lookup

__all__ = ["Facts", "QuantRule", "Role", "Row", "lookup"]
