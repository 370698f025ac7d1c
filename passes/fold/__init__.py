"""fold: sequences, branches, skips and normalisations that are one affine map become one operator.

``choose`` finds the cheapest exact cover of every affine region, ``emit`` writes the operator of a chosen map, ``fold`` is the
pass. What is affine, and when a composition is exact, is said in ``graphopt.ops.affine``; which tensors are affine maps of which
others, in ``graphopt.analysis.affine``.
"""

from graphopt.passes.fold.fold import Fold

__all__ = ["Fold"]
