"""Convolution algebra: operators that are affine maps of one tensor, and what those maps are closed under.

``axis`` and ``form`` decide on structure alone (extents, strides, pads, phases, groups) whether a composition or a sum is exact;
``maps`` holds the numbers as expressions over an array namespace, ``border`` the constants that differ along the border,
``provenance`` the formula. Rules read the maps off operators: ``kernels``, ``matrices``, ``elementwise``, ``moves``; ``views`` is
what Reshape and Transpose do to axes.
"""

from graphopt.ops.affine.axis import PLAIN, Axis
from graphopt.ops.affine.form import Form, Refused, Sizes
from graphopt.ops.affine.maps import AffineMap, Compose, Kernel, Leaf, Relaid, SumOf, Unbiased, evaluate, identity_of
from graphopt.ops.affine.provenance import formula, leaves, sources
from graphopt.ops.affine.terms import AffineRule, Linear, Move, Outputs, Part, Sum, Term

__all__ = [
    "PLAIN", "AffineMap", "AffineRule", "Axis", "Compose", "Form", "Kernel", "Leaf", "Linear", "Move", "Outputs", "Part", "Refused",
    "Relaid", "Sizes", "Sum", "SumOf", "Term", "Unbiased", "evaluate", "formula", "identity_of", "leaves", "sources",
]  # fmt: skip
