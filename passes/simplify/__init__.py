"""``simplify``: constants, identities, duplicates and dead nodes. The pass is in ``simplify``, one concern a file beside it."""

from graphopt.passes.simplify.simplify import Simplify

__all__ = ["Simplify"]
