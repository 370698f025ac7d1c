"""Where the numbers of a map come from: its sources, and its formula.

In a formula ``a * b`` is a after b, ``a + b`` a sum; a leaf stands as its operator over the tensors that it is made of, as in
``Conv(w, b)``, and ``I`` is the identity.
"""

from __future__ import annotations

from graphopt.ops.affine.maps import AffineMap, Compose, Leaf, Relaid, SumOf, Unbiased

LONG = 2000
"""Characters after which a formula is cut."""


def leaves(top: AffineMap) -> list[Leaf]:
    """The leaves of a map, each once, in order."""
    found: list[Leaf] = []
    seen: set[int] = set()
    stack: list[AffineMap] = [top]
    while stack:
        one = stack.pop()
        if id(one) in seen:  # maps share parts: x + x doubles the paths at every step
            continue
        seen.add(id(one))
        match one:
            case Leaf():
                found.append(one)
            case Compose():
                stack += [one.second, one.first]
            case SumOf():
                stack.extend(part for part, _ in reversed(one.parts))
            case Unbiased() | Relaid():
                stack.append(one.inner)
    return found


def sources(top: AffineMap) -> tuple[str, ...]:
    """The tensors that a map's values come from, each once, in order."""
    return tuple(dict.fromkeys(name for leaf in leaves(top) for name in leaf.sources))


def formula(top: AffineMap) -> str:
    """The map in terms of its leaves."""
    parts: list[str] = []
    length = 0
    stack: list[AffineMap | str] = [top]
    while stack and length < LONG:
        one = stack.pop()
        match one:
            case str():
                parts.append(one)
                length += len(one)
            case Leaf():
                stack.append(f"{one.label}({', '.join(one.sources)})" if one.sources else one.label or "I")
            case Compose():
                stack += [one.first, " * ", one.second]
            case Unbiased() | Relaid():
                stack.append(one.inner)
            case SumOf():
                stack.append(")")
                for number, (part, factor) in reversed(list(enumerate(one.parts))):
                    sign = (" - " if number else "-") if factor == -1.0 else " + " if number else ""
                    scale = "" if abs(factor) == 1.0 else f"{factor:g} "
                    stack += [part, f"{sign}{scale}"]
                stack.append("(")
    return "".join(parts) + (" ..." if stack else "")
