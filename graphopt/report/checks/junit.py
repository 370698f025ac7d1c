"""JUnit's XML, which build servers show as tests: a suite a model, a case a rule.

A case fails if its rule has a new error. Warnings and notes, the baseline and what is suppressed do not fail it, and are told in
its output; a rule that could not be asked is a skipped case.

Names come from model files: what XML 1.0 cannot hold (control characters, lone surrogates) is written as an escape.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from graphopt.check import Checked, Finding, Level, State
from graphopt.report.checks.common import message, name_of

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(results: Sequence[Checked]) -> str:
    """The report."""
    root = ET.Element("testsuites", name="graphopt check")
    counts = [_suite(root, checked) for checked in results]
    for index, name in enumerate(("tests", "failures")):
        root.set(name, str(sum(one[index] for one in counts)))
    root.set("errors", "0")
    root.set("time", f"{sum(checked.seconds for checked in results):.3f}")
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")


def _suite(root: ET.Element, checked: Checked) -> tuple[int, int]:
    suite = ET.SubElement(root, "testsuite", name=legal(checked.model))
    by_code: dict[str, list[Finding]] = {}
    for finding in checked.findings:
        by_code.setdefault(finding.code, []).append(finding)
    codes = list(dict.fromkeys([*checked.ran, *checked.skipped, *by_code]))
    failures = skipped = 0
    for code in codes:
        case = ET.SubElement(suite, "testcase", classname=legal(checked.model), name=f"{code} {name_of(code)}", time="0")
        failed = [f for f in by_code.get(code, []) if f.state is State.NEW and f.level is Level.ERROR]
        others = [f for f in by_code.get(code, []) if f not in failed]
        if failed:
            failures += 1
            body = "\n".join(map(message, failed))
            ET.SubElement(case, "failure", message=legal(message(failed[0])), type=code).text = legal(body)
        elif code in checked.skipped:
            skipped += 1
            ET.SubElement(case, "skipped", message=legal(checked.skipped[code]))
        if others:
            ET.SubElement(case, "system-out").text = legal("\n".join(f"{f.level} ({f.state}): {message(f)}" for f in others))
    totals = {"tests": len(codes), "failures": failures, "errors": 0, "skipped": skipped}
    for name, count in totals.items():
        suite.set(name, str(count))
    suite.set("time", f"{checked.seconds:.3f}")
    return len(codes), failures


def legal(text: str) -> str:
    """``text`` without what XML cannot hold."""
    return _FORBIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
