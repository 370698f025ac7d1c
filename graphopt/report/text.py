"""A report for people: a row a pass, then what was refused in short, then what must not be missed.

Figures are rounded to three digits, and the exact ones are in the JSON. The latency column is the input's time by the
result's (2.00x is twice as fast), the error column the drift from the input model:

    2e-07         largest difference as a share of the output's range, where that says enough
    32.1 dB       signal to quantization noise ratio of the worst output, for anything bigger
    ... 97.5 %    and for classifiers how many samples keep their class
"""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from graphopt.errors import printable
from graphopt.pipeline import Refusal
from graphopt.pipeline.record import Accuracy, Figures, PassRecord, Report
from graphopt.runtime import Timing
from graphopt.verify import Drift

WIDTH = 80
"""Width where there is no terminal to ask."""

EXAMPLES = 3
ROUNDING = 1e-4
"""Below this share of the range a difference is shown as such; above, as a ratio in decibel."""


def to_text(report: Report, *, width: int = WIDTH, colour: bool = False, explain: bool = False) -> str:
    """The report as text; ``colour`` adds the escapes of a terminal, ``explain`` every rewrite and every refusal."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colour, no_color=not colour, highlight=False, emoji=False, markup=False)
    console.print(render(report, explain=explain))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def render(report: Report, *, explain: bool = False) -> RenderableType:
    """The report as a renderable of rich; ``explain``: with every rewrite and every refusal by itself."""
    parts: list[RenderableType] = [
        Text.assemble((printable(report.model), "bold"), printable(f"  target {report.target}  data: {report.data}")),
        table(report),
        *_legend(report),
        *_verifications(report.passes),
        *(_explained(report.passes) if explain else [*_rewrites(report.passes), *_refusals(report.passes)]),
        *_unknown(report.result),
        *_accuracy(report),
        *_notes(report.all_notes),
    ]
    return Group(*parts)


def table(report: Report) -> Table:
    """One row for the input, and one for each pass."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    made.add_column("pass", no_wrap=True, overflow="ellipsis", max_width=16)
    for name in ("nodes", "params", "MACs", "size", "latency"):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("error", justify="right")
    if report.accuracy is not None:
        made.add_column("top-1", justify="right", no_wrap=True)
    rows = [_row("input", report.figures, _milliseconds(report.passes), "", report.accuracy)]
    rows += [_row(one.name, one.figures, _ratio(one.timing), _error(one), one.accuracy) for one in report.passes]
    for row in rows:
        made.add_row(*(row if report.accuracy is not None else row[:-1]))
    return made


def _row(name: str, figures: Figures, latency: str, error: str, accuracy: Accuracy | None) -> tuple[str, ...]:
    macs = si(figures.macs) + ("+" if figures.unknown else "")
    top1 = "" if accuracy is None else f"{accuracy.share:.2%}"
    return (name, str(figures.nodes), si(figures.params), macs, size(figures.bytes), latency, error, top1)


def counted(number: int, noun: str) -> str:
    """1 node, 2 nodes."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def si(number: float) -> str:
    """A count in three digits: 12.3 k, 4.56 M."""
    return _scaled(number, 1000.0, ("", " k", " M", " G", " T"))


def size(count: float) -> str:
    """Bytes in three digits: 1.23 MiB."""
    return _scaled(count, 1024.0, (" B", " KiB", " MiB", " GiB", " TiB"))


def _scaled(number: float, step: float, units: Sequence[str]) -> str:
    rank = 0
    while abs(number) >= 999.5 and rank < len(units) - 1:
        number, rank = number / step, rank + 1
    if rank == 0:
        return f"{number:.0f}{units[0]}"
    digits = 2 if abs(number) < 9.995 else 1 if abs(number) < 99.95 else 0
    return f"{number:.{digits}f}{units[rank]}"


def _milliseconds(passes: Sequence[PassRecord]) -> str:
    timing = next((one.timing for one in passes if one.timing is not None), None)
    return "" if timing is None else f"{timing.a_ms:.3g} ms"


def _ratio(timing: Timing | None) -> str:
    return "" if timing is None else f"{timing.ratio:.2f}x"


def _error(one: PassRecord) -> str:
    if not one.changed:
        return "unchanged"
    return "NOT VERIFIED" if one.drift is None else distance(one.drift)


def distance(drift: Drift) -> str:
    """The drift in the table's words."""
    if drift.worst_rel <= ROUNDING:
        return "0" if drift.worst_rel == 0 else f"{drift.worst_rel:.0e}"
    sqnr = drift.sqnr_db
    words = f"{drift.worst_rel:.0e}" if sqnr is None or not math.isfinite(sqnr) else f"{sqnr:.1f} dB"
    agreement = min((o.top1 for o in drift.outputs if o.top1 is not None), default=None)
    return words if agreement is None else f"{words}, {agreement:.1%}"


def _legend(report: Report) -> list[RenderableType]:
    if not report.passes:
        return []
    timed = any(one.timing is not None for one in report.passes)
    words = "latency: how many times as fast as the input, onnxruntime, 1 thread; " if timed else ""
    return [Text(f"{words}error: against the input's outputs\n", style="dim")]


def _verifications(passes: Iterable[PassRecord]) -> list[RenderableType]:
    return [_line(f"{one.name}: {one.verification}") for one in passes if one.changed]


def _rewrites(passes: Iterable[PassRecord]) -> list[RenderableType]:
    found = [f"{one.name}: {counted(len(one.rewrites), 'rewrite')}" for one in passes if one.rewrites]
    return [_line(", ".join(found))] if found else []


def _explained(passes: Iterable[PassRecord]) -> list[RenderableType]:
    """Every rewrite and every refusal, in their order."""
    lines: list[RenderableType] = []
    for one in passes:
        if one.rewrites:
            lines.append(Text.assemble("\n", (f"{one.name} rewrote:", "bold")))
        lines += [_line(f"{rewrite.where}: {rewrite.what}") for rewrite in one.rewrites]
        if one.refusals:
            lines.append(Text.assemble("\n", (f"{one.name} left as it was:", "bold")))
        lines += [_line(f"{refusal.where}: {refusal.code}: {refusal.why}") for refusal in one.refusals]
    return lines


def _refusals(passes: Sequence[PassRecord]) -> list[RenderableType]:
    lines: list[RenderableType] = []
    for one in passes:
        groups: defaultdict[str, list[Refusal]] = defaultdict(list)
        for refusal in one.refusals:
            groups[refusal.code].append(refusal)
        if groups:
            lines.append(Text.assemble("\n", (f"{one.name} left as it was:", "bold")))
        for code, found in sorted(groups.items(), key=lambda item: -len(item[1])):
            lines.append(_line(f"{len(found)} x {code}: {found[0].why}"))
            places = list(dict.fromkeys(refusal.where for refusal in found))
            rest = f" and {len(places) - EXAMPLES} more" if len(places) > EXAMPLES else ""
            lines.append(Padding(Text(printable("at " + ", ".join(places[:EXAMPLES]) + rest), style="dim"), (0, 0, 0, 6)))
    return lines


def _unknown(figures: Figures) -> list[RenderableType]:
    if not figures.unknown:
        return []
    shown = ", ".join(figures.unknown[:EXAMPLES])
    more = f" and {len(figures.unknown) - EXAMPLES} more" if len(figures.unknown) > EXAMPLES else ""
    return [_line(f"MACs leave out {counted(len(figures.unknown), 'node')} of unknown cost: {shown}{more}")]


def _accuracy(report: Report) -> list[RenderableType]:
    if report.accuracy is None:
        return []
    after = report.passes[-1].accuracy if report.passes else report.accuracy
    if after is None:
        return []
    words = f"top-1 accuracy on {report.accuracy.count} samples: {report.accuracy.share:.2%} before, {after.share:.2%} after"
    return [Text.assemble("\n", (words, "bold"))]


def _notes(notes: Iterable[str]) -> list[RenderableType]:
    return [Text.assemble("\n", ("note: ", "bold yellow"), (printable(note), "yellow")) for note in notes]


def _line(text: str) -> RenderableType:
    return Padding(Text(printable(text)), (0, 0, 0, 2))
