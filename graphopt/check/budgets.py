"""The words that the rules of GO41x share."""

from __future__ import annotations


def over(count: int, most: float, unit: str) -> str:
    """What is too much, and by how much."""
    share = f", {count / most - 1:.1%} more than" if most > 0 else ";"
    limit = f"{most:,.0f}" if most % 1 == 0 else f"{most:,}"
    return f"{count:,} {unit}{share} the limit of {limit}"
