"""The one map of codes: which rule stands behind each, and whether it is to be relied on.

A code is never used for another meaning. A rule that goes leaves its code here, marked as removed, with what to use instead.

Codes below GO050 are those with which reading, checking and running a model refuse it (``graphopt.model``, ``graphopt.verify``,
``graphopt.guard``): as a check they are findings, and mean the same. GO020 and GO023 can only be told of what a pass made. GO401
and GO501 to GO503 are what ``graphopt run`` ends with; budgets of a check are GO41x, its drift GO51x.

Nothing is imported here: ``graphopt explain`` and shell completion need one rule, not all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

PACKAGE = "graphopt.check.rules"


class Status(StrEnum):
    """Whether a rule can be relied on: what a ``preview`` rule looks for may still change."""

    STABLE = "stable"
    PREVIEW = "preview"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the rule of a code is: its name, which is its module's too; ``instead`` tells what to use for one that is removed."""

    name: str
    status: Status = Status.STABLE
    instead: str = ""

    @property
    def module(self) -> str:
        """The module."""
        return f"{PACKAGE}.{self.name.replace('-', '_')}"


_PREVIEW = Status.PREVIEW

CODES: Mapping[str, Entry] = {
    # The file, as it is read
    "GO001": Entry("unreadable-file"),
    "GO002": Entry("not-a-model"),
    "GO003": Entry("cycle"),
    "GO004": Entry("produced-twice"),
    "GO005": Entry("dangling-name"),
    "GO006": Entry("invalid-opset"),
    "GO007": Entry("attribute-twice"),
    "GO008": Entry("name-not-text"),
    "GO010": Entry("external-data-refused"),
    "GO011": Entry("damaged-tensor"),
    "GO012": Entry("unknown-element-type"),
    "GO014": Entry("message-too-large"),
    "GO016": Entry("graphs-too-deep"),
    "GO017": Entry("endless-function"),
    "GO018": Entry("sparse-tensor-too-large"),
    "GO019": Entry("invalid-ir-version"),
    # Its structure
    "GO021": Entry("invalid-graph"),
    "GO022": Entry("hidden-name"),
    "GO024": Entry("unsorted-nodes"),
    "GO025": Entry("type-mismatch"),
    # Its interface, against another model's
    "GO026": Entry("inputs-or-outputs-changed"),
    "GO027": Entry("interface-type-changed"),
    "GO028": Entry("interface-shape-changed"),
    # What the runtime makes of it
    "GO030": Entry("does-not-run"),
    "GO031": Entry("untyped-input"),
    "GO032": Entry("random-outputs"),
    "GO040": Entry("crashes-a-library"),
    "GO041": Entry("does-not-end"),
    "GO042": Entry("too-much-memory"),
    # What is valid and still wrong
    "GO050": Entry("wrong-description"),
    "GO051": Entry("no-outputs"),
    "GO052": Entry("external-data"),
    "GO053": Entry("non-finite-weight"),
    "GO054": Entry("opset-out-of-range"),
    "GO055": Entry("ir-version-out-of-range"),
    "GO056": Entry("unknown-operator"),
    "GO057": Entry("operator-not-on-target"),
    "GO058": Entry("dynamic-shape"),
    "GO059": Entry("shared-node-name"),
    # What training or export left behind
    "GO101": Entry("unfolded-batch-norm"),
    "GO102": Entry("foldable-chain"),
    "GO103": Entry("foldable-branch"),
    "GO104": Entry("foldable-skip"),
    "GO105": Entry("redundant-layout-change"),
    "GO106": Entry("dead-node"),
    "GO107": Entry("unfolded-constant"),
    "GO108": Entry("identity"),
    "GO109": Entry("dropout"),
    "GO110": Entry("training-operator"),
    "GO111": Entry("duplicate-node"),
    "GO112": Entry("neutral-operator"),
    "GO113": Entry("unread-initializer"),
    "GO114": Entry("constant-branch"),
    # Integers
    "GO200": Entry("float-model"),
    "GO201": Entry("kernel-in-float"),
    "GO202": Entry("float-island"),
    "GO203": Entry("redundant-quantizers"),
    "GO204": Entry("bias-quantization"),
    "GO205": Entry("activation-outside-quantizers"),
    "GO206": Entry("scale-not-positive"),
    "GO207": Entry("saturated-tensor", _PREVIEW),
    "GO208": Entry("scheme-not-on-target"),
    # Channels
    "GO301": Entry("width-off-step"),
    "GO302": Entry("too-few-channels"),
    "GO303": Entry("discouraged-convolution", _PREVIEW),
    "GO304": Entry("mask-in-graph"),
    "GO305": Entry("dead-channels"),
    # Budgets
    "GO410": Entry("too-many-parameters"),
    "GO411": Entry("too-many-macs"),
    "GO412": Entry("too-many-bytes"),
    "GO413": Entry("too-much-activation"),
    "GO414": Entry("too-many-nodes"),
    "GO415": Entry("too-slow"),
    # Drift, against another model
    "GO510": Entry("drift-sqnr"),
    "GO511": Entry("drift-psnr"),
    "GO512": Entry("drift-top1"),
    "GO513": Entry("drift-cosine"),
    "GO514": Entry("not-comparable"),
}
