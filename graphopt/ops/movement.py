"""Operators that move values without computing: what they do to data they do to labels."""

from __future__ import annotations

from graphopt.ops import affine, channels, cost
from graphopt.ops.row import QuantRule, Role, Row

_SAME = QuantRule(Role.SAME_SCALE)
_FLOAT = QuantRule(Role.NONE)

ROWS = (
    Row("Pad", cost=cost.nothing, affine=affine.pad, channels=channels.PAD, quant=_FLOAT),
    Row("Concat", cost=cost.nothing, channels=channels.CONCAT, quant=QuantRule(Role.ARITHMETIC)),
    Row("Split", cost=cost.nothing, channels=channels.SPLIT, quant=_SAME),
    *(
        Row(op, cost=cost.nothing, channels=rule, quant=_SAME)
        for op, rule in (
            ("DepthToSpace", channels.DEPTH_TO_SPACE),
            ("Expand", channels.EXPAND),
            ("Flatten", channels.FLATTEN),
            ("Gather", channels.GATHER),
            ("Reshape", channels.RESHAPE),
            ("Slice", channels.SLICE),
            ("Squeeze", channels.SQUEEZE),
            ("Tile", channels.TILE),
            ("Transpose", channels.TRANSPOSE),
            ("Unsqueeze", channels.UNSQUEEZE),
        )
    ),
    Row("SpaceToDepth", cost=cost.nothing, channels=channels.DEPTH_TO_SPACE, quant=_FLOAT),
    *(
        Row(op, cost=cost.nothing, channels=channels.OPAQUE, quant=_FLOAT)
        for op in ("GatherElements", "GatherND", "ScatterElements", "ScatterND", "Trilu", "ReverseSequence")
    ),
)
