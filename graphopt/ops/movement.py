"""Operators that move values without computing: what they do to data they do to labels."""

from __future__ import annotations

from graphopt.ops import channels, cost
from graphopt.ops.affine import kernels, moves
from graphopt.ops.row import QuantRule, Role, Row

_SAME = QuantRule(Role.SAME_SCALE)
_FLOAT = QuantRule(Role.NONE)

ROWS = (
    Row("Pad", cost=cost.nothing, affine=kernels.pad, channels=channels.PAD, quant=_FLOAT),
    Row("Concat", cost=cost.nothing, affine=moves.concat, channels=channels.CONCAT, quant=QuantRule(Role.ARITHMETIC)),
    *(
        Row(op, cost=cost.nothing, affine=affine, channels=rule, quant=_SAME)
        for op, rule, affine in (
            ("DepthToSpace", channels.DEPTH_TO_SPACE, moves.depth_to_space),
            ("Expand", channels.EXPAND, moves.expand),
            ("Flatten", channels.FLATTEN, moves.reshape),
            ("Gather", channels.GATHER, moves.gather),
            ("Reshape", channels.RESHAPE, moves.reshape),
            ("Slice", channels.SLICE, moves.slice_),
            ("Split", channels.SPLIT, moves.split),
            ("Squeeze", channels.SQUEEZE, moves.reshape),
            ("Tile", channels.TILE, moves.tile),
            ("Transpose", channels.TRANSPOSE, moves.transpose),
            ("Unsqueeze", channels.UNSQUEEZE, moves.reshape),
        )
    ),
    Row("SpaceToDepth", cost=cost.nothing, affine=moves.space_to_depth, channels=channels.DEPTH_TO_SPACE, quant=_FLOAT),
    Row("ScatterND", cost=cost.nothing, affine=moves.scatter, channels=channels.OPAQUE, quant=_FLOAT),
    *(
        Row(op, cost=cost.nothing, channels=channels.OPAQUE, quant=_FLOAT)
        for op in ("GatherElements", "GatherND", "ScatterElements", "Trilu", "ReverseSequence")
    ),
)
