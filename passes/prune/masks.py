"""Masks from a file: tensor name -> boolean or number per channel, as an npz archive. False and 0 mean remove.

A mask speaks about the units that its tensor's channels belong to. Two masks, or two entries of one, that want different things
of one unit are a conflict; the group is then left alone and named.
"""

from __future__ import annotations

import difflib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGraph
from graphopt.errors import DataError
from graphopt.ops.channels import Labels, Layout
from graphopt.pipeline import Refusal

Array = NDArray[Any]


def read_masks(path: Path) -> dict[str, Array]:
    """The arrays of an npz archive. Raises DataError GO840 if it is none."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {str(name): np.asarray(archive[name]) for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError, EOFError) as error:
        hint = "masks are an npz archive: numpy.savez(path, **{tensor_name: mask})"
        raise DataError("GO840", str(path), f"cannot be read as masks ({error})", hint) from None


def from_masks(graph: ChannelGraph, masks: Mapping[str, Array], where: str) -> tuple[Labels, list[Refusal]]:
    """The units that masks remove, and what of them is refused.

    Raises DataError: GO841 for a tensor that the model has not, GO842 for a mask of another length than the tensor's channels.
    """
    votes: dict[int, dict[bool, str]] = {}
    for name, mask in masks.items():
        wanted = np.asarray(mask).reshape(-1) != 0
        for classes in _channels(graph, name, wanted.size, where):
            for unit, keep in zip(classes.tolist(), wanted.tolist(), strict=True):
                votes.setdefault(unit, {}).setdefault(keep, name)
    chosen: list[int] = []
    refusals: list[Refusal] = []
    for group in graph.groups:
        mine = [(int(u), votes[int(u)]) for u in group.units if int(u) in votes]
        removed = [u for u, v in mine if False in v]
        clash = next((v for _, v in mine if len(v) > 1), None)
        label = f"'{group.tensor}'"
        if not removed:
            continue
        if group.frozen is not None:
            refusals.append(Refusal(label, "frozen-channels", f"its mask removes channels that cannot go: {group.frozen}"))
        elif clash is not None:
            refusals.append(Refusal(label, "mask-conflict", f"'{clash[False]}' removes channels that '{clash[True]}' keeps"))
        elif len(removed) == group.size:
            refusals.append(Refusal(label, "empty-group", f"the mask of '{mine[0][1][False]}' leaves no channel"))
        else:
            chosen.extend(removed)
    return np.asarray(sorted(chosen), np.int64), refusals


def _channels(graph: ChannelGraph, name: str, count: int, where: str) -> list[Labels]:
    """The class of each of ``count`` channels of a tensor, along the axis that the mask is for; of a shared constant by reader."""
    layouts = [layout for other, layout, _ in graph.flow.layouts() if other == name]
    if not layouts:
        near = difflib.get_close_matches(name, {other for other, _, _ in graph.flow.layouts()}, 3)
        raise DataError("GO841", f"{where}: '{name}'", "the model has no such tensor", f"near: {', '.join(near)}" if near else "")
    preferred = 1 if name in graph.flow.tensors else 0
    found: list[Labels] = []
    for layout in layouts:
        axes = sorted(range(layout.rank), key=lambda a: (a != preferred, a))
        vectors = (_vector(layout, axis) for axis in axes)
        found.extend([graph.flow.table.find(v) for v in vectors if v is not None and v.size == count][:1])
    if found:
        return found
    sizes = [layout.size(a) for layout in layouts for a in range(layout.rank) if layout.fields_on(a)]
    raise DataError("GO842", f"{where}: '{name}'", f"a mask of {count} for channels of {sizes}", "give one entry a channel")


def _vector(layout: Layout, axis: int) -> Labels | None:
    fields = layout.fields_on(axis)
    if len(fields) != 1 or any(at not in layout.span(axis) for at in fields[0].at):
        return None
    return fields[0].labels.reshape(-1)
