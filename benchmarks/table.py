"""One pipeline over many models: what each pass did and refused, as one table.

    python -m benchmarks.table --passes fold,prune,quant MODEL...

Without data the inputs are generated; the point is that every model comes through, verified, or is refused with a reason.
"""

from __future__ import annotations

import argparse
import time
import traceback
from collections import Counter
from pathlib import Path

import graphopt
from graphopt.errors import GraphoptError


def main() -> None:
    """Parse, run, print a block a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--passes", default="fold,prune,quant")
    args = parser.parse_args()
    for path in args.models:
        start = time.perf_counter()
        try:
            report = graphopt.run(path, args.passes).report
        except GraphoptError as error:
            print(f"{path.name}: {error}")
            continue
        except Exception:  # noqa: BLE001  every other model is still to come
            print(f"{path.name}: A BUG")
            traceback.print_exc()
            continue
        seconds = time.perf_counter() - start
        print(f"{path.name}: {report.figures.nodes} nodes, {report.figures.macs / 1e6:.1f} M MACs ({seconds:.0f} s)")
        for one in report.passes:
            reasons = ", ".join(f"{n} {code}" for code, n in Counter(r.code for r in one.refusals).most_common())
            print(
                f"  {one.text:10} {one.figures.nodes} nodes, {one.figures.macs / 1e6:.1f} M MACs, "
                f"{one.figures.bytes / 1024:.0f} KiB, verified: {one.verification}, refused: {reasons or 'nothing'}"
            )


if __name__ == "__main__":
    main()
