"""Which of the ways to quantize comes closest on the data.

Every choice that a user leaves to ``auto`` is made by the error of the outputs on calibration samples, step by step: the rule for
ranges; whether channels are scaled against one another, and how far their ranges reach; whether weights and biases are fitted.
Ranges and scales are taken from all samples. What is fitted is fitted on three quarters of them, and judged on the other quarter.
Fitting makes up for some errors and not for others: where scaled channels and unscaled ones are close, both are fitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from graphopt.passes.quant.draft import NOTHING, Draft
from graphopt.passes.quant.equalize import ChannelStats
from graphopt.passes.quant.fidelity import Judge
from graphopt.passes.quant.ranges import AUTO_RULES, Rule
from graphopt.passes.quant.refit import Fit, Fitted, Refit, only_means, only_rounded, second_order
from graphopt.pipeline import Context
from graphopt.runtime import Feeds

Rounding = Literal["auto", "nearest", "second-order", "data-free"]
Biases = Literal["auto", "keep", "correct"]

JUDGED = 32
"""On how many samples alternatives are compared that nothing was fitted for."""

FITTED = 48
"""On how many samples weights and biases are fitted."""

CLOSE = 1.1
"""Of the best error before weights are fitted: up to here the best one of the other kind (scaled, or not) is fitted too."""

REACHES = (math.inf, 8.0, 5.0)
"""How far channels' ranges reach, in standard deviations; see ``equalize``."""


@dataclass(slots=True)
class Choice:
    """What was chosen.

    Attributes:
        draft: the float model, with its channels scaled if they are.
        rule: for ranges.
        reach: how far channels' ranges reach; None if they are not scaled.
        fitted: kernels that were fitted, by unit.
        error: what was measured of it.
        rounding: "nearest", "data-free" or "fitted".
        errors: of every alternative that was judged, by name.
    """

    draft: Draft
    rule: Rule
    reach: float | None = None
    error: float = math.nan
    fitted: Mapping[str, Fitted] = field(default_factory=lambda: NOTHING)
    rounding: str = "nearest"
    errors: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def label(self) -> str:
        """For reports."""
        return self.rule if self.reach is None else f"{self.rule}, equalized {self.reach:g}"


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options that this module decides on; ``rule`` is None and ``scaled`` is None for auto."""

    rule: Rule | None
    scaled: bool | None
    rounding: Rounding
    biases: Biases


class Search:
    """One search.

    Args:
        draft: the float model as it is.
        stats: of its channels.
        scaled: makes a draft of a copy of the model whose channels have been scaled.
        ctx: for the data, and for progress.
    """

    def __init__(self, draft: Draft, stats: Mapping[str, ChannelStats], scaled: Callable[[float], Draft], ctx: Context) -> None:
        self.draft = draft
        self.stats = stats
        self.scaled = scaled
        self.ctx = ctx
        fit, held = ctx.feeds.split(ctx.seed)
        self.fit_on: Feeds = fit.take(FITTED)
        self.judge = Judge(draft.model, ctx.feeds.take(JUDGED))
        self.held_out = Judge(draft.model, held.take(JUDGED))

    def best(self, wishes: Wishes) -> Choice:
        """By measurement where the wishes leave it open; the first of equals."""
        found: list[Choice] = []
        errors: dict[str, float] = {}
        with self.ctx.progress("choose ranges") as bar:
            for reach in self.reaches(wishes):
                draft = self.draft if reach is None else self.scaled(reach)
                for rule in AUTO_RULES if wishes.rule is None else (wishes.rule,):
                    one = Choice(draft, rule, reach, self.judge.error(draft.trial(rule)))
                    errors[one.label] = one.error
                    found.append(one)
                    bar.advance()
        choice = min(found, key=lambda c: c.error)
        rivals = [c for c in found if (c.reach is None) != (choice.reach is None) and c.error <= CLOSE * choice.error]
        tried = [self.fitted(one, wishes) for one in [choice, *sorted(rivals, key=lambda c: c.error)[:1]]]
        best = min(tried, key=lambda c: c.error)
        best.errors = errors | {f"{one.label}, {name}": error for one in tried for name, error in one.errors.items()}
        return best

    def reaches(self, wishes: Wishes) -> Sequence[float | None]:
        """None is for channels as they are."""
        if wishes.scaled is False or not self.stats:
            return (None,)
        return REACHES if wishes.scaled else (None, *REACHES)

    def fitted(self, choice: Choice, wishes: Wishes) -> Choice:
        """With weights and biases fitted, where that is wanted, or left open and better."""
        fit = _FITS[wishes.rounding, wishes.biases]
        choice.rounding = "data-free" if self.draft.rounded else "nearest"
        if fit is None:
            return choice
        jobs = choice.draft.jobs(choice.rule)
        network, places = choice.draft.network(choice.rule, jobs)
        work = Refit(choice.draft.model, network.proto(), places, self.fit_on, q_max=choice.draft.q_max, seed=self.ctx.seed)
        with self.ctx.progress("fit weights", len(jobs)) as bar:
            fitted = work.run(jobs, fit, bar.advance)
        before = self.held_out.error(choice.draft.trial(choice.rule))
        after = self.held_out.error(choice.draft.trial(choice.rule, fitted))
        choice.errors = {"not fitted, held out": before, "fitted, held out": after}
        asked = wishes.rounding == "second-order" or wishes.biases == "correct"
        choice.error = before
        if asked or after < before:
            choice.fitted, choice.rounding, choice.error = fitted, "fitted", after
        return choice


_FITS: dict[tuple[Rounding, Biases], Fit | None] = {
    ("auto", "auto"): second_order,
    ("auto", "keep"): only_rounded,
    ("auto", "correct"): second_order,
    ("nearest", "auto"): only_means,
    ("nearest", "keep"): None,
    ("nearest", "correct"): only_means,
    ("second-order", "auto"): second_order,
    ("second-order", "keep"): only_rounded,
    ("second-order", "correct"): second_order,
    ("data-free", "auto"): only_means,
    ("data-free", "keep"): None,
    ("data-free", "correct"): only_means,
}
