"""Does pruning make models faster, and does a probed table know by how much?

    python -m benchmarks.latency MODEL... [--keep 0.7] [--variants 10] [--seed 0]

For each model, folded: its time after pruning to a share of its MACs with the target's steps and without (multiple=1), and, for a
number of random widths on multiples of 8, the time that the probed latency table predicts beside the measured one. All times are
shares of the folded model's, medians of interleaved pairs, one thread, by the processor's clock (which other work on the machine
disturbs less), quartiles in brackets. Channels go by weight norms: only widths matter here.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import graphopt
from graphopt.analysis import Analyses
from graphopt.analysis.channels import Channels
from graphopt.passes.prune.allocate import steps
from graphopt.passes.prune.latency import predicted
from graphopt.passes.prune.probe import probe
from graphopt.passes.prune.prune import ready
from graphopt.passes.prune.realise import realise
from graphopt.passes.prune.reference import masked
from graphopt.pipeline import Context
from graphopt.runtime import Feed, Session, Timing
from graphopt.runtime.timing import paired_times, summary


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--keep", type=float, default=0.7)
    parser.add_argument("--variants", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for path in args.models:
        model = graphopt.run(path, "fold", timing=False).model
        ctx = Context(model)
        feed, shapes = ctx.feeds.first(), ctx.input_shapes()
        print(f"{path.name}:", flush=True)
        for options in ("", ":multiple=1"):
            text = f"prune:macs={args.keep}{options}:importance=norm"
            pruned = graphopt.run(model, text, timing=False)
            share = pruned.report.result.macs / max(pruned.report.figures.macs, 1)
            timing = _compare(model, pruned.model, feed)
            print(f"  {text:44} {share:.1%} of the MACs, {_share(timing)} of the time", flush=True)
        start = time.perf_counter()
        table = probe(model, feed, shapes, lambda: None)
        print(f"  probed {len(table.shapes)} shapes in {time.perf_counter() - start:.1f} s, step {table.step}, align {table.align}")
        ready(model, ctx)
        graph = Analyses(model.copy()).get(Channels(shapes))
        groups = [g for g in graph.prunable if g.size > 1]
        rng = np.random.default_rng(args.seed)
        before, errors = predicted(model, table, shapes).ms, list[float]()
        for _ in range(args.variants):
            most = rng.uniform(0.2, 0.8)
            counts = [int(rng.choice([n for n in steps(g, 8) if n <= most * g.size])) for g in groups]
            removed = graph.flow.table.marked(np.concatenate([g.units[:n] for g, n in zip(groups, counts, strict=True)]))
            variant = realise(masked(graph, removed, {}), graph, removed).model
            share = predicted(variant, table, shapes).ms / before
            timing = _compare(model, variant, feed)
            errors.append(share * timing.ratio - 1)
            print(f"    predicted {share:.3f}, measured {_share(timing)}: {errors[-1]:+.1%}", flush=True)
        within = sum(abs(e) <= 0.1 for e in errors)
        print(f"  {within} of {len(errors)} variants within 10 %, median {np.median(np.abs(errors)):.1%}")


def _compare(before: graphopt.Model, after: graphopt.Model, feed: Feed) -> Timing:
    pair = Session(before), Session(after)
    return summary(*paired_times(*pair, feed, repeats=300, seconds=5.0, clock=time.process_time))


def _share(timing: Timing) -> str:
    return f"{1 / timing.ratio:.3f} [{1 / timing.high:.2f} to {1 / timing.low:.2f}]"


if __name__ == "__main__":
    main()
