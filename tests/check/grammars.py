"""What the published schemas of SARIF 2.1.0 and JUnit demand, as far as our reports use them, written down from the texts.

The schema files themselves are not bundled: that of SARIF is OASIS's, under a licence of its own. ``SARIF`` has, for every object
that we write, its properties with their types and which are required, after the standard's section 3 and its schema (errata 01);
like the schema it allows no other properties. ``JUNIT`` is the structure that the xUnit plugin of Jenkins publishes
as junit-10.xsd.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree as ET

LEVELS = ("none", "note", "warning", "error")
Kind = str | tuple[str, ...] | Callable[[Any], bool]


def _uri(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"([a-z][a-z0-9+.-]*:)?[A-Za-z0-9/._~!$&'()*+,;=@%:-]+", value) is not None


def _guid_free(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, str) for k, v in value.items())


# property -> (kind, required). A kind is a Python type's name, the name of an object below, "[name]" for an array of them, a tuple
# of allowed texts, or a predicate.
SARIF: dict[str, dict[str, tuple[Kind, bool]]] = {
    "log": {"$schema": (_uri, False), "version": (("2.1.0",), True), "runs": ("[run]", True)},
    "run": {
        "tool": ("tool", True),
        "results": ("[result]", False),
        "invocations": ("[invocation]", False),
        "columnKind": (("utf16CodeUnits", "unicodeCodePoints"), False),
    },
    "tool": {"driver": ("toolComponent", True)},
    "toolComponent": {
        "name": ("str", True),
        "version": ("str", False),
        "semanticVersion": (lambda v: isinstance(v, str) and re.fullmatch(r"\d+\.\d+\.\d+([-+].*)?", v) is not None, False),
        "rules": ("[reportingDescriptor]", False),
    },
    "reportingDescriptor": {
        "id": ("str", True),
        "name": ("str", False),
        "shortDescription": ("multiformatMessageString", False),
        "fullDescription": ("multiformatMessageString", False),
        "help": ("multiformatMessageString", False),
        "defaultConfiguration": ("reportingConfiguration", False),
        "properties": ("dict", False),
    },
    "multiformatMessageString": {"text": ("str", True), "markdown": ("str", False)},
    "reportingConfiguration": {"level": (LEVELS, False)},
    "invocation": {"executionSuccessful": ("bool", True), "toolExecutionNotifications": ("[notification]", False)},
    "notification": {"message": ("message", True), "level": (LEVELS, False)},
    "message": {"text": ("str", True)},
    "result": {
        "ruleId": ("str", False),
        "ruleIndex": (lambda v: type(v) is int and v >= -1, False),
        "level": (LEVELS, False),
        "message": ("message", True),
        "locations": ("[location]", False),
        "partialFingerprints": (_guid_free, False),
        "suppressions": ("[suppression]", False),
    },
    "location": {"physicalLocation": ("physicalLocation", False), "logicalLocations": ("[logicalLocation]", False)},
    "physicalLocation": {"artifactLocation": ("artifactLocation", True)},
    "artifactLocation": {"uri": (_uri, False)},
    "logicalLocation": {"name": ("str", False), "fullyQualifiedName": ("str", False), "kind": ("str", False)},
    "suppression": {"kind": (("inSource", "external"), True)},
}


def sarif_faults(value: Any, name: str = "log", where: str = "$") -> Iterator[str]:
    """What is wrong with an object of the given name."""
    if not isinstance(value, dict):
        yield f"{where} is no object"
        return
    table = SARIF[name]
    yield from (f"{where}.{key} is not in the schema" for key in value if key not in table)
    for key, (kind, required) in table.items():
        if key in value:
            yield from _faults(value[key], kind, f"{where}.{key}")
        elif required:
            yield f"{where}.{key} is missing"


def _faults(value: Any, kind: Kind, where: str) -> Iterator[str]:
    if isinstance(kind, tuple):
        if value not in kind:
            yield f"{where} is {value!r}"
    elif callable(kind):
        if not kind(value):
            yield f"{where} is {value!r}"
    elif kind in ("str", "bool", "dict"):
        if type(value).__name__ != kind or value == "":
            yield f"{where} is {value!r}"
    elif kind.startswith("["):
        if not isinstance(value, list):
            yield f"{where} is no array"
            return
        for index, item in enumerate(value):
            yield from sarif_faults(item, kind[1:-1], f"{where}[{index}]")
    else:
        yield from sarif_faults(value, kind, where)


_NUMBER = re.compile(r"\d+")
_TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]{0,6})?")
_ANY = re.compile(r"(?s).*")

# element -> attributes (pattern, required), and the elements that may be in it
JUNIT: dict[str, tuple[dict[str, tuple[re.Pattern[str], bool]], tuple[str, ...]]] = {
    "testsuites": (
        {
            "name": (_ANY, False),
            "time": (_TIME, False),
            "tests": (_NUMBER, False),
            "failures": (_NUMBER, False),
            "errors": (_NUMBER, False),
        },
        ("testsuite",),
    ),
    "testsuite": (
        {
            "name": (_ANY, True),
            "tests": (_NUMBER, True),
            "failures": (_NUMBER, False),
            "errors": (_NUMBER, False),
            "skipped": (_NUMBER, False),
            "time": (_TIME, False),
        },
        ("testcase",),
    ),
    "testcase": (
        {"name": (_ANY, True), "classname": (_ANY, False), "time": (_TIME, False)},
        ("skipped", "error", "failure", "system-out", "system-err"),
    ),
    "failure": ({"message": (_ANY, False), "type": (_ANY, False)}, ()),
    "skipped": ({"message": (_ANY, False)}, ()),
    "system-out": ({}, ()),
}


def junit_faults(element: ET.Element, root: bool = True) -> Iterator[str]:
    """What is wrong with an element and what is in it."""
    if root and element.tag != "testsuites":
        yield f"the root is {element.tag}"
        return
    attributes, inner = JUNIT[element.tag]
    yield from (f"{element.tag} has an attribute {name}" for name in element.attrib if name not in attributes)
    for name, (pattern, required) in attributes.items():
        value = element.get(name)
        if value is None and required:
            yield f"{element.tag} has no {name}"
        elif value is not None and not pattern.fullmatch(value):
            yield f"{element.tag}: {name} is {value!r}"
    for child in element:
        if child.tag not in inner:
            yield f"{child.tag} in {element.tag}"
        else:
            yield from junit_faults(child, False)


GITHUB = re.compile(
    r"::(error|warning|notice) file=[^:,\r\n]+,title=[^:,\r\n]+::[^\r\n]*"  # a colon or comma in a value is %3A, %2C
)
