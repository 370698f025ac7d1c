"""What a rule may ask about a model: facts that are found once, when the first rule asks, and shared by all.

Where a rule needs what a pass knows it asks the pass: each pass is run at most once, on a copy (``graphopt.check.dryrun``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphopt.analysis import Analyses, Cost, Shapes, ShapeTable
from graphopt.analysis.cost import CostTable
from graphopt.check.activation import peak_activation
from graphopt.check.anchor import anchors
from graphopt.check.dryrun import DryRun, DryRuns, Region
from graphopt.check.quantized import Quantizers
from graphopt.errors import Diagnostic, ModelError, UsageError
from graphopt.model import Model, node_key, node_label
from graphopt.model.bodies import bodies_within
from graphopt.pipeline import Outcome, Rewrite
from graphopt.pipeline.context import InputShapes, shapes_of
from graphopt.runtime import Feeds, Session, generated, open_data
from graphopt.runtime.ratio import Ratio, time_ratio
from graphopt.target import Target
from graphopt.verify import Drift, check_interface, compare

Limits = dict[str, float]
NO_LIMIT = "no limit was set ({})"
NO_CLAIM = "the target "
"""How a reason begins where a target's file says nothing of what a rule asks."""

NEED_REFERENCE = ("max-latency-ratio", "min-sqnr-db", "min-psnr-db", "min-top1", "min-cosine")
"""Limits that are about the distance to a reference."""

NO_REFERENCE = "no reference was given (--against)"


def _no_limits() -> Limits:
    return {}


class NotAsked(Exception):
    """A rule cannot be asked of this model; the reason goes into the report."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user asks of a model beside the rules.

    Attributes:
        target: the device.
        against: path of the reference model.
        data: samples, as ``graphopt.runtime.open_data`` takes them.
        preprocess: how images become inputs.
        limits: budget -> number, for the rules of GO41x and GO51x.
        samples: how many samples drift is measured on.
        threads: threads of one operator.
        seconds: how long latency may be measured.
    """

    target: Target
    against: Path | None = None
    data: str | None = None
    preprocess: str | None = None
    limits: Limits = field(default_factory=_no_limits)
    samples: int = 32
    threads: int = 1
    seconds: float = 20.0


class Subject:
    """One model under test."""

    def __init__(self, model: Model, asked: Asked, session: Session | None) -> None:
        self.model = model
        self.asked = asked
        self._session = session

    @property
    def runs(self) -> bool:
        """Whether onnxruntime runs it."""
        return self._session is not None

    # -- the graph ---------------------------------------------------------------------------------------------------------------

    @cached_property
    def proto(self) -> onnx.ModelProto:
        """The model without its large weights, as it is written down."""
        return self.model.skeleton()

    @cached_property
    def analyses(self) -> Analyses:
        """The analyses of the model."""
        return Analyses(self.model)

    @cached_property
    def declared(self) -> ShapeTable:
        """Shapes as far as the model itself says."""
        return self.analyses.get(Shapes())

    @cached_property
    def shapes(self) -> ShapeTable:
        """Shapes with the input's open sizes settled."""
        return self.analyses.get(Shapes(self.input_shapes))

    @cached_property
    def cost(self) -> CostTable:
        """Multiply-accumulates, parameters and bytes."""
        return self.analyses.get(Cost(self.input_shapes))

    @cached_property
    def peak(self) -> tuple[int, str] | None:
        """The most memory that activations take, and where."""
        return peak_activation(self.model, self.shapes)

    @cached_property
    def anchors(self) -> dict[str, str]:
        """Node id -> place by structure."""
        return anchors(self.model)

    @cached_property
    def by_label(self) -> dict[str, gs.Node]:
        """Nodes by what passes call them in their reports."""
        return {node_label(node): node for node in reversed(self.model.graph.nodes)}

    def node_of(self, label: str) -> tuple[str, str]:
        """Label and id of the node that a pass names; the id is "" if the model has no such node."""
        node = self.by_label.get(label)
        return label, "" if node is None else node_key(node)

    def op_of(self, key: str) -> str:
        """The operator of a node."""
        return self.ops.get(key, "")

    @cached_property
    def ops(self) -> dict[str, str]:
        """Node id -> operator."""
        return {node_key(node): node.op for node in self.model.graph.nodes}

    @cached_property
    def makers(self) -> dict[str, str]:
        """Tensor -> id of the node that computes it."""
        return {t.name: node_key(n) for n in self.model.graph.nodes for t in n.outputs}

    def constants_read(self) -> Iterator[tuple[gs.Node, gs.Tensor]]:
        """Every constant, initializer or result of a Constant node, with each node that reads it; those of bodies too."""
        for node in all_nodes(self.model):
            for tensor in node.inputs:
                maker = self.model.producer(tensor)
                if isinstance(tensor, gs.Constant) or (maker is not None and maker.op == "Constant"):
                    yield node, tensor

    # -- running it --------------------------------------------------------------------------------------------------------------

    @cached_property
    def feeds(self) -> Feeds:
        """The user's samples, or one generated input."""
        if self.asked.data is not None:
            return open_data(self.asked.data, self.model, self.asked.preprocess)
        return generated(self.model, 1)

    @cached_property
    def input_shapes(self) -> InputShapes:
        """The shape of each input, which settles open sizes."""
        return shapes_of(self.feeds)

    @property
    def session(self) -> Session:
        """The model in onnxruntime. Raises NotAsked where that does not run it."""
        if self._session is None:
            raise NotAsked("onnxruntime does not run the model")
        return self._session

    # -- the passes --------------------------------------------------------------------------------------------------------------

    @cached_property
    def dry(self) -> DryRuns:
        """What the passes would do."""
        return DryRuns(self.model, self.asked.target, self.feeds)

    @cached_property
    def simplified(self) -> Sequence[Rewrite]:
        """What simplify would rewrite."""
        return _answer(self.dry.simplified).rewrites

    @cached_property
    def regions(self) -> list[Region]:
        """What fold would compose."""
        _answer(self.dry.folded)
        return self.dry.regions

    @cached_property
    def pruned(self) -> Sequence[Rewrite]:
        """Which channels prune would remove at no loss."""
        return _answer(self.dry.pruned).rewrites

    @property
    def integer_plan(self) -> frozenset[str]:
        """Ids of the nodes that quant would run in integers."""
        return self._integer_plans[0]

    @cached_property
    def _integer_plans(self) -> Sequence[frozenset[str]]:
        if self.asked.target.int8 is None:
            raise NotAsked(f"the target {self.asked.target.name} states no integer kernels")
        plan = self.dry.integer
        if plan.failure is not None:
            raise NotAsked(f"quant: {plan.failure}")
        return plan.choices

    def in_float(self) -> Iterator[gs.Node]:
        """The nodes that run in float although quant would run them in integers; none where any choice of quant's is met."""
        present = self.quantizers.integer
        missed = [wanted - present for wanted in self._integer_plans]
        return (node for node in self.model.graph.nodes if all(missed) and node_key(node) in missed[0])

    @cached_property
    def quantizers(self) -> Quantizers:
        """Quantizers, dequantizers, and what runs in integers between them."""
        return Quantizers(self.model, self.asked.target.int8)

    # -- the reference -----------------------------------------------------------------------------------------------------------

    @cached_property
    def reference(self) -> Model:
        """The model that this one is held against."""
        if self.asked.against is None:
            raise NotAsked(NO_REFERENCE)
        try:
            return Model.load(self.asked.against)
        except ModelError as error:
            raise _no_reference(error) from None

    @cached_property
    def reference_session(self) -> Session:
        """The reference in onnxruntime.

        Raises:
            NotAsked: onnxruntime does not run it.
            UsageError: nor does it, and there is a limit that needs it.
        """
        try:
            return Session(self.reference, threads=self.asked.threads)
        except ModelError as error:
            if any(limit in NEED_REFERENCE for limit in self.asked.limits):
                raise _no_reference(error) from None
            raise NotAsked(f"the reference: {error.diagnostic.why}") from None

    @cached_property
    def interface(self) -> list[Diagnostic]:
        """What a user of the reference would notice when given this model."""
        return check_interface(self.reference, self.model)

    @cached_property
    def drift(self) -> Drift:
        """How far the outputs are from the reference's."""
        reference = self.reference_session
        session = self.session
        feeds = self.feeds if self.asked.data is not None else generated(self.reference, self.asked.samples)
        return compare(reference, session, feeds.take(self.asked.samples), threads=self.asked.threads)

    @cached_property
    def latency(self) -> Ratio:
        """This model's time over the reference's."""
        reference, feeds = self.reference, self.feeds
        if not self.runs:
            raise NotAsked("onnxruntime does not run the model")
        _ = self.reference_session  # where it does not run, that is told of it and not of the model
        return time_ratio(self.model, reference, feeds.first(), seconds=self.asked.seconds, threads=self.asked.threads)

    def budget(self, name: str) -> float:
        """A limit. Raises NotAsked if none was set."""
        if name not in self.asked.limits:
            raise NotAsked(NO_LIMIT.format(name))
        return self.asked.limits[name]


def _no_reference(error: ModelError) -> UsageError:
    """What is wrong with the reference is no finding about the model."""
    wrong = error.diagnostic
    return UsageError(wrong.code, wrong.where, f"the reference: {wrong.why}", wrong.hint)


def _answer(run: DryRun) -> Outcome:
    if run.failure is not None:
        raise NotAsked(run.failure)
    return run.outcome


def finite(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> bool:
    """Whether an array holds no NaN and no infinity; small floats of odd types are widened first."""
    if array.dtype.kind in "biuOSU":
        return True
    wide = array if array.dtype.kind in "fc" and array.dtype.itemsize >= 2 else array.astype(np.float32)
    return bool(np.isfinite(wide).all())


def all_nodes(model: Model) -> Iterator[gs.Node]:
    """Every node, those of the bodies of If, Loop and Scan too."""
    for node in model.graph.nodes:
        yield node
        for body in bodies_within(node):
            yield from body.nodes
