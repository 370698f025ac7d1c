"""Masks from a file: tensor name -> boolean or number per channel, as an npz archive. False and 0 mean remove.

A mask speaks about the channels of its tensor, and so about all that goes with them. Two masks, or two entries of one, that want
different things of one channel are a conflict: the group is then left alone and named, or (``intersect``) what any mask removes
is removed. Where channels of several blocks go together, as many of each as of the others, a mask says which of each; the blocks
that no mask speaks of lose the channels with the same indices as the others.

A mask may be given in another space than the graph's: see ``graphopt.passes.prune.spaces``.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGraph, Group
from graphopt.errors import DataError
from graphopt.ops.channels import Labels, Layout
from graphopt.passes.prune.reorder import Moves, Parts, exchanged, parts_of
from graphopt.pipeline import Refusal

Array = NDArray[Any]

Votes = dict[int, dict[bool, str]]
"""By channel (of the finer partition): whether it shall stay, with the mask that says so."""


_NUMBERS = "biuf"
"""Kinds of numpy types that a mask may have: booleans, integers and real numbers."""

_HINT = "masks are an npz archive of numbers: numpy.savez(path, **{tensor_name: mask})"


def read_masks(path: Path) -> dict[str, Array]:
    """The arrays of an npz archive. Raises DataError GO840 if it is none, or holds something else than numbers."""
    try:
        opened: Any = np.load(path, allow_pickle=False)
        if isinstance(opened, np.ndarray):
            raise DataError("GO840", str(path), "is a single array, without a tensor's name", _HINT)
        with opened as archive:
            names: list[str] = list(archive.files)
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                raise DataError("GO840", f"{path}: '{twice[0]}'", "is in the archive more than once", _HINT)
            read: dict[str, Any] = {str(name): archive[name] for name in names}
    except DataError:
        raise
    except OSError as error:
        raise DataError("GO840", str(path), f"cannot be read ({error.strerror or 'no archive'})", _HINT) from None
    except Exception:  # noqa: BLE001  what zip files and numpy raise of damaged bytes has no common ancestor
        raise DataError("GO840", str(path), "cannot be read as masks: it is damaged, or no archive of arrays", _HINT) from None
    masks: dict[str, Array] = {}
    for name, mask in read.items():
        array: Array = np.asarray(mask)  # a member that is no array comes as bytes
        if array.dtype.kind not in _NUMBERS:
            raise DataError("GO840", f"{path}: '{name}'", f"is no mask: {array.dtype}", _HINT)
        masks[name] = array
    return masks


@dataclass(slots=True)
class Choice:
    """What masks remove: units of the groups, after the channels were moved by ``moves``; and what of it is refused."""

    units: list[int] = field(default_factory=list[int])
    moves: Moves = field(default_factory=Moves)
    refusals: list[Refusal] = field(default_factory=list[Refusal])


def from_masks(graph: ChannelGraph, masks: Iterable[tuple[str, Array]], where: str, *, intersect: bool = False) -> Choice:
    """The units that masks, by tensor, remove; an entry nan says nothing.

    Raises DataError: GO841 for a tensor that the model has not, GO842 for a mask of another length than the tensor's channels.
    """
    votes: Votes = {}
    layouts: dict[str, list[Layout]] = {}
    for name, layout, _ in graph.flow.layouts():
        layouts.setdefault(name, []).append(layout)
    for name, mask in masks:
        flat = np.asarray(mask).reshape(-1)
        wanted, spoken = flat != 0, flat == flat  # nan is not equal to itself
        for channels in _channels(graph, layouts, name, wanted.size, where):
            for channel, keep in zip(channels[spoken].tolist(), wanted[spoken].tolist(), strict=True):
                votes.setdefault(channel, {}).setdefault(keep, name)
    owner = _owners(graph, votes)
    parts = parts_of(graph, [g for g in graph.prunable if g.id in owner])
    choice = Choice()
    for group in graph.groups:
        if any(False in v for v in owner.get(group.id, {}).values()):
            _choose(graph, group, owner[group.id], parts.get(group.id), choice, intersect=intersect)
    choice.units.sort()
    return choice


def _owners(graph: ChannelGraph, votes: Votes) -> dict[str, Votes]:
    """The votes by group."""
    group_of = {int(u): g.id for g in graph.groups for u in g.units}
    found: dict[str, Votes] = {}
    for channel, vote in votes.items():
        group = group_of.get(int(graph.flow.table.find(np.asarray([channel]))[0]))
        if group is not None:
            found.setdefault(group, {})[channel] = vote
    return found


def _choose(graph: ChannelGraph, group: Group, votes: Votes, parts: Parts | None, choice: Choice, *, intersect: bool) -> None:
    """Add to ``choice`` what the votes on one group come to."""
    label = f"'{group.tensor}'"
    name = next(v[False] for v in votes.values() if False in v)
    clash = next((v for v in votes.values() if len(v) > 1), None)
    if group.frozen is not None:
        choice.refusals.append(Refusal(label, "frozen-channels", f"its mask removes channels that cannot go: {group.frozen}"))
        return
    if clash is not None and not intersect:
        choice.refusals.append(Refusal(label, "mask-conflict", f"'{clash[False]}' removes channels that '{clash[True]}' keeps"))
        return
    gone = {channel for channel, vote in votes.items() if False in vote}
    units = {int(u) for u in graph.flow.table.find(np.asarray(sorted(gone)))}
    split = any(int(graph.flow.table.find(np.asarray([c]))[0]) in units for c in set(votes) - gone)
    moves: Moves = {}
    found = _moved(group, parts, votes, gone) if split and parts is not None else None
    if found is not None:
        units, moves = found
    elif split and not intersect:
        why = f"'{name}' removes other numbers of channels from blocks that shrink alike"
        choice.refusals.append(Refusal(label, "uneven-mask", why))
        return
    if len(units) == group.size:
        choice.refusals.append(Refusal(label, "empty-group", f"the mask of '{name}' leaves no channel"))
        return
    choice.units.extend(units)
    choice.moves.update(moves)


def _moved(group: Group, parts: Parts, votes: Votes, gone: set[int]) -> tuple[set[int], Moves] | None:
    """The units to remove, and the moves that bring the channels that shall go there; None if they are not as many everywhere."""
    spoken = [m for m in parts.members if any(int(c) in votes for c in m.reshape(-1))]
    counts = {(np.isin(m, sorted(gone)).sum() / m.shape[1]) for m in spoken}
    if len(counts) != 1 or not float(next(iter(counts))).is_integer():
        return None
    count = int(next(iter(counts)))
    # The units whose channels in the first block go already; then those with most of them.
    rank = np.isin(spoken[0], sorted(gone)).sum(1)
    chosen = np.sort(np.argsort(-rank, kind="stable")[:count])
    moves: Moves = {}
    for members in spoken:
        wanted = members[np.isin(members, sorted(gone))]
        moves.update(exchanged(members[chosen].reshape(-1), wanted))
    return {int(u) for u in group.units[chosen]}, moves


def _channels(graph: ChannelGraph, known: Mapping[str, list[Layout]], name: str, count: int, where: str) -> list[Labels]:
    """Each of ``count`` channels of a tensor, along the axis that the mask is for; of a shared constant by reader."""
    layouts = known.get(name)
    if layouts is None:
        near = difflib.get_close_matches(name, known, 3)
        raise DataError("GO841", f"{where}: '{name}'", "the model has no such tensor", f"near: {', '.join(near)}" if near else "")
    found: list[Labels] = []
    for layout in layouts:
        fitting = vectors(layout, count, constant=name not in graph.flow.tensors)
        found.extend(graph.flow.table.find_same(v) for v in fitting)
    if found:
        return found
    if name in {t.name for t in graph.model.graph.inputs}:
        raise DataError("GO842", f"{where}: '{name}'", "is an input of the model: its channels cannot go", "leave its mask out")
    sizes = [layout.size(a) for layout in layouts for a in range(layout.rank) if layout.fields_on(a)]
    raise DataError("GO842", f"{where}: '{name}'", f"a mask of {count} for channels of {sizes}", "give one entry a channel")


def vectors(layout: Layout, count: int, *, constant: bool) -> list[Labels]:
    """The labels that ``count`` entries are for: along axis 1 (of a constant 0), or else the first axis of so many."""
    preferred = 0 if constant else 1
    axes = sorted(range(layout.rank), key=lambda a: (a != preferred, a))
    return next((v for v in (_vectors(layout, axis, count) for axis in axes) if v), list[Labels]())


def _vectors(layout: Layout, axis: int, count: int) -> list[Labels]:
    """The labels that ``count`` entries along an axis are for: one vector, or one for every head of [heads, dimensions]."""
    fields, span = layout.fields_on(axis), layout.span(axis)
    if len(fields) != 1:
        return []
    field = fields[0]
    here = [k for k, at in enumerate(field.at) if at in span]
    wide = np.moveaxis(field.labels, here, range(-len(here), 0))
    rows = wide.reshape(-1, int(np.prod(wide.shape[wide.ndim - len(here) :])))
    if field.labels.size == count:
        return [field.labels.reshape(-1)]
    return list(rows) if rows.shape[1] == count else []
