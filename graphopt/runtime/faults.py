"""onnxruntime's error text, brought down to one line with a place and a remedy.

A message of onnxruntime carries a status ("[ONNXRuntimeError] : 1 : FAIL :"), the path of a C++ file, a C++ function
with its arguments, the failed condition and, somewhere in it, the reason. ``explain`` keeps the reason and the node,
and drops the rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LONGEST = 300

_STATUS = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_RUNNING = re.compile(
    r"Non-zero status code returned while running (?P<op>\S+) node\. Name:'(?P<name>[^']*)'\s*(Status Message:)?\s*"
)
_SOURCE = re.compile(r"/\S*?onnxruntime(_src)?/\S+?\.(cc|h|cpp|hpp):\d+ (?P<rest>.*)")
_SHORT_SOURCE = re.compile(r"^\w+\.(cc|h):\d+ \w+ ")
_FUNCTION = re.compile(r"^.*?\)( const)?( \[with [^\]]*\])? (?=\S)")
_CONDITION = re.compile(r"^.* was false\. ?(?=\S)")
_INVALID = re.compile(r"This is an invalid model\. ")
_IN_NODE = re.compile(r'In Node, \("(?P<name>[^"]*)", (?P<op>[^,]+),[^)]*\)( : .*? -> .*?\),?)? ?,? ?')
_OF_NODE = re.compile(r"\b(?:of|in|for) (?:node|operator) ?\(?'?(?P<name>[^'\s():,]+)'?\)?")
_PLAIN_WORD = re.compile(r"[A-Z][a-z]*\b")
_NO_KERNEL = re.compile(
    r"(Could not find an implementation|Failed to find kernel) for (?P<op>\S+?)\((?P<version>\d+)\) "
    r"(node with name |\(node:)'(?P<name>[^']*)'"
)

_REMEDIES: tuple[tuple[str, str], ...] = (
    ("Unsupported model IR version", "install a newer onnxruntime, or save the model with an older IR version"),
    ("is under development and support", "install a newer onnxruntime, or export the model with an older opset"),
    ("No opset import for domain", "add the domain to the model's opset_import"),
    ("No Op registered for", "this operator belongs to another opset or to a library of custom operators"),
    ("is not a registered function/op", "this operator belongs to another opset or to a library of custom operators"),
    ("Failed to find kernel", "onnxruntime's CPU provider has no kernel for this operator with these types"),
    ("Could not find an implementation", "onnxruntime's CPU provider has no kernel for this operator with these types"),
    ("is not currently registered or supported", "onnxruntime does not support this tensor type"),
    ("Type Error", "the graph's types contradict one another: `onnx.checker.check_model(path, full_check=True)`"),
    ("is not a graph input, initializer, or output", "a node reads a tensor that nothing produces"),
    ("protobuf parsing failed", "the file is damaged or is no ONNX model"),
    ("invalid dimensions for input", "give inputs of the model's shape"),
    ("Unexpected input data type", "give inputs of the model's type"),
    ("missing from input feed", "give a value for every input"),
    ("Invalid input name", "give only inputs that the model has"),
    ("external", "load the model by its path, with the external data beside it"),
    ("bad allocation", "there is not enough memory for this model with these inputs"),
    ("Failed to allocate memory", "there is not enough memory for this model with these inputs"),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure of the runtime: the node ("Conv 'name'", empty if unknown), the reason in one line, and a remedy (or "")."""

    node: str
    why: str
    hint: str


def explain(text: str) -> Fault:
    """Read a message of onnxruntime; what it does not understand comes through whole, as one line."""
    line = _STATUS.sub("", " ".join(text.split())).removeprefix("Fatal error: ")
    node, line = _node(line)
    line = _INVALID.sub("", line)
    source = _SOURCE.search(line)
    if source is not None:
        line = line[: source.start()] + _reason(source["rest"])
    line = _SHORT_SOURCE.sub("", line.strip()).strip(" ,:.") or "failed without a reason"
    if len(line) > _LONGEST:
        line = line[: _LONGEST - 4].rstrip() + " ..."
    # A sentence begins small after "cannot run it:"; the name of an operator stays as it is.
    line = line[0].lower() + line[1:] if _PLAIN_WORD.match(line) else line
    return Fault(node, line, _remedy(text))


def _node(line: str) -> tuple[str, str]:
    """The node that the message names, and the message without its mention where that is mere wrapping."""
    # A node with a subgraph reports the failure of an inner node in the same words; the innermost one is to blame.
    running = list(_RUNNING.finditer(line))
    if running:
        return _label(running[-1]["op"], running[-1]["name"]), line[running[-1].end() :]
    found = _IN_NODE.search(line)
    if found is not None:
        return _label(found["op"], found["name"]), line[: found.start()] + line[found.end() :]
    found = _NO_KERNEL.search(line)
    if found is not None:
        return _label(found["op"], found["name"]), f"there is no kernel for {found['op']} of version {found['version']}"
    found = _OF_NODE.search(line)
    return (f"node '{found['name']}'" if found is not None else ""), line


def _label(op: str, name: str) -> str:
    return f"{op} '{name}'" if name else op


def _reason(rest: str) -> str:
    """What follows the C++ function and its condition, or as much of it as there is."""
    for pattern in (_CONDITION, _FUNCTION):
        cut = pattern.sub("", rest, count=1)
        if cut:
            rest = cut
    return rest


def _remedy(text: str) -> str:
    return next((hint for mark, hint in _REMEDIES if mark in text), "")
