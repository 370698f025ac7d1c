"""The names of the default operator set: the empty one, and the same spelt out (ONNX IR specification, operator sets)."""

from __future__ import annotations

STANDARD: frozenset[str | None] = frozenset((None, "", "ai.onnx"))
"""What a node's or an import's domain says; None is how graphsurgeon writes the empty one."""
