"""All exports of a folder, pruned and held against the independent masked reference: one line a file.

    python -m tests.pruning.survey FOLDER-OR-FILE... [--ratio 0.5] [--multiple 8] [--largest MIB] [--skip LINES]

Columns: seconds of the processor for grouping (and what goes before) and for the whole pass; the share of MACs that is prunable;
MACs (millions) before and after; output channels removed, of all operators with constant weights; groups that failed their
certificate; the largest deviation from the masked original, over the output's range, in the file's type; then frozen groups by
reason. Smaller files come first.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from graphopt.analysis import Analyses
from graphopt.analysis.channels import Channels
from graphopt.model import Model
from graphopt.passes.prune import Prune
from graphopt.passes.prune.prune import ready
from graphopt.pipeline import Context
from tests.pruning.large import KEPT, compare, load

HEAD = (
    f"{'file':40} {'nodes':>6} {'group s':>8} {'prune s':>8} {'prunable':>8} {'M MACs':>9} {'after':>9} {'removed':>8} "
    f"{'uncert.':>7} {'deviation':>9}  frozen"
)


def line(path: Path, ratio: float, multiple: int, dynamic: int) -> tuple[str, bool]:
    """One file; and whether all is well."""
    original = load(path)
    model = Model.load(original)
    context = Context(model)
    shapes, nodes, grouped = context.input_shapes(), len(model.graph.nodes), model.copy()
    start = time.process_time()
    ready(grouped, context)
    graph = Analyses(grouped).get(Channels(shapes))
    grouping = time.process_time() - start
    frozen = Counter(_kind(g.frozen) for g in graph.groups if g.frozen)
    share = graph.prunable_share_of_macs
    del graph, grouped
    start = time.process_time()
    outcome = Prune(ratio=ratio, multiple=multiple, importance="norm", compensate=False).run(model, context)
    pruning = time.process_time() - start
    before, after = outcome.facts["macs_before"], outcome.facts["macs_after"]
    uncertified = Counter(_kind(r.why) for r in outcome.refusals if r.code == "not-certified")
    pruned = model.proto()
    del model, context, outcome.reference
    verdict = compare(original, pruned, dynamic=dynamic)
    reasons = "; ".join(f"{n} {why}" for why, n in frozen.most_common())
    failed = "".join(f" | NOT CERTIFIED {n} {why}" for why, n in uncertified.most_common())
    wrong = "" if verdict.deviation <= KEPT else " | OTHER OUTPUTS"
    name = "/".join(path.parts[-2:])
    text = (
        f"{name:40} {nodes:6} {grouping:8.2f} {pruning:8.2f} {share:8.1%} {before / 1e6:9.1f} {after / 1e6:9.1f} "
        f"{sum(verdict.gone.rows.values()):8} {sum(uncertified.values()):7} {verdict.deviation:9.1e}  {reasons}{failed}{wrong}"
    )
    return text, not wrong and not uncertified


def _kind(reason: str) -> str:
    """A reason without names and numbers."""
    return re.sub(r"\d+", "n", re.sub(r" ?'[^']*'", "", reason))


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--multiple", type=int, default=8)
    parser.add_argument("--largest", type=float, default=300, help="leave out larger files (MiB)")
    parser.add_argument("--dynamic", type=int, default=1, help="the size of open dimensions")
    parser.add_argument("--skip", type=Path, help="a file of lines of an earlier run: what is in it is not run again")
    args = parser.parse_args()
    files = [f for m in args.models for f in (m.glob("**/*.onnx") if m.is_dir() else [m])]
    done = (
        {row.split()[0] for row in args.skip.read_text().splitlines() if row.strip()} if args.skip and args.skip.exists() else set()
    )
    files = [f for f in files if f.stat().st_size <= args.largest * 2**20 and "/".join(f.parts[-2:]) not in done]
    print(HEAD, flush=True)
    well = True
    for path in sorted(files, key=lambda f: f.stat().st_size):
        try:
            text, good = line(path, args.ratio, args.multiple, args.dynamic)
        except Exception as error:  # noqa: BLE001  the other files are still to come
            where = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {' '.join(str(error).split())[:300]} ({Path(where.filename).name}:{where.lineno})"
            text, good = f"{'/'.join(path.parts[-2:]):40} FAILED {what}", False
        well &= good
        print(text, flush=True)
    return int(not well)


if __name__ == "__main__":
    sys.exit(main())
