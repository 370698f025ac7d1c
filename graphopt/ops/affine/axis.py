"""One spatial axis of an affine map, and when composing two of them is exact.

An output of phase r is written in blocks of r: element r * n + f of the output (0 <= f < r) is

    y[r * n + f] = sum over t of K[f, t] * x[stride * n - begin + t]

so r = 1 is a convolution, and r > 1 a convolution with r times the rows followed by DepthToSpace: transposed convolutions, nearest
resizing and DepthToSpace itself are all of this form. There are N = floor((H + begin + end - extent) / stride) + 1 blocks, and the
output has r * N - crop elements. Pads may be negative: then the map leaves a part of its input out.

**Second after first.** Output m of the second reads position s2 * m - p2 + t of the first's output. With R = r1 / gcd(r1, s2)
and S = s2 / gcd(r1, s2), put m = R * n + u: that position is r1 * S * n + a with a = s2 * u - p2 + t = r1 * q + f, which is row f
of the first map in block S * n + q. So the composed map has phase r2 * R and stride s1 * S, and q runs from floor(-p2 / r1) to
floor((s2 * (R - 1) - p2 + e2 - 1) / r1), which gives begin and extent. The number of blocks follows for every size if R = 1 or
S = 1, which is always so for r1 = 1: floor((floor(a / s1) + c) / s2) = floor((a + s1 * c) / (s1 * s2)).

Where the second map pads, it reads zeros and the composed map reads the first map's continuation. That must vanish there:

    before the start:  block -1 of phase f reads up to input -s1 - p1 + (last tap of f), which must be below 0
    after the end:     block n of phase f reads from input s1 * n - p1 + (first tap of f), which must be H or more; as
                       s1 * N >= H + p1 + end1 - e1 + 1, that can be known without H
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Axis:
    """Kernel extent, greatest common divisor of the offsets at which there are taps (0: one tap), stride, pads, phase and crop.
    ``support``: first and last tap of each phase; empty where all use the whole extent. ``fine``: the dilation, where the map is
    that of one transposed convolution.
    """

    extent: int = 1
    grid: int = 0
    stride: int = 1
    begin: int = 0
    end: int = 0
    phase: int = 1
    crop: int = 0
    support: tuple[tuple[int, int], ...] = ()
    fine: int = 1

    @property
    def taps(self) -> int:
        """Taps once the gaps of the dilation are left out."""
        return (self.extent - 1) // self.grid + 1 if self.grid else 1

    @property
    def room(self) -> int:
        """What the kernel leaves of the pads: the number of blocks is floor((H + room) / stride) + 1."""
        return self.begin + self.end - self.extent

    def tap_range(self, phase: int) -> tuple[int, int]:
        """First and last tap of a phase."""
        return self.support[phase] if self.support else (0, self.extent - 1)

    @property
    def reads(self) -> int:
        """Taps of all phases together: products for one block and one pair of channels."""
        if not self.support:
            return self.phase * self.taps
        return sum((last - first) // (self.grid or 1) + 1 for first, last in self.support)

    def blocks(self, size: int) -> int:
        """Number of blocks for an input of ``size``."""
        return (size + self.room) // self.stride + 1

    def output(self, size: int) -> int:
        """Number of output elements for an input of ``size``."""
        return self.phase * self.blocks(size) - self.crop

    def without_negative_pads(self) -> Axis:
        """The same map with taps of zero instead of negative pads, as an operator wants it."""
        before, after = max(-self.begin, 0), max(-self.end, 0)
        if not before and not after:
            return self
        support = tuple((first + before, last + before) for first, last in self.support)
        return replace(
            self,
            extent=self.extent + before + after,
            grid=math.gcd(self.grid, before, after),
            begin=max(self.begin, 0),
            end=max(self.end, 0),
            support=support,
        )


def laid(whole: Axis, part: Axis, shift: int) -> slice:
    """Where the taps of ``part``, moved by ``shift``, are among those of ``whole``, whose grid holds them."""
    unit = whole.grid or 1
    step = max(part.grid // unit, 1)
    first = shift // unit
    return slice(first, first + (part.taps - 1) * step + 1, step)


PLAIN = Axis()
"""The axis of a map that works on each position by itself."""


def follow(second: Axis, first: Axis) -> Axis | None:
    """``second`` after ``first``, pads being no obstacle; None where the number of blocks depends on the input's size."""
    common = math.gcd(first.phase, second.stride)
    more, skip = first.phase // common, second.stride // common
    if more > 1 and skip > 1:
        return None
    low = -second.begin // first.phase
    high = (second.stride * (more - 1) - second.begin + second.extent - 1) // first.phase
    slack = second.room - first.crop
    if skip == 1:
        count = slack // second.stride + 1
        added = -(-count // more)
        crop = second.phase * (more * added - count) + second.crop
        room = first.room + first.stride * added
    else:
        crop = second.crop
        room = first.room + first.stride * (1 + slack // first.phase)
    begin = first.begin - first.stride * low
    extent = first.stride * (high - low) + first.extent
    phase = second.phase * more
    return Axis(
        extent=extent,
        grid=_grid(second, first, high > low) if extent > 1 else 0,
        stride=first.stride * skip,
        begin=begin,
        end=room - begin + extent,
        phase=phase,
        crop=crop,
        support=_support(second, first) if phase > 1 or first.phase > 1 else (),
        fine=first.fine if second == PLAIN else second.fine if first == PLAIN else 1,
    )


def _grid(second: Axis, first: Axis, wide: bool) -> int:
    if first.phase == 1:
        return math.gcd(first.grid, second.grid * first.stride)
    return math.gcd(first.grid, first.stride) if wide else first.grid


def places(second: Axis, first: Axis, step: int, tap: int) -> tuple[int, int]:
    """Where tap ``tap`` of the second map in output ``step`` of a block finds the first map: (q - lowest q, phase f)."""
    q, f = divmod(second.stride * step - second.begin + tap, first.phase)
    return q - (-second.begin // first.phase), f


def _support(second: Axis, first: Axis) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    more = first.phase // math.gcd(first.phase, second.stride)
    for step in range(more):
        for phase in range(second.phase):
            start, stop = second.tap_range(phase)
            ends: list[int] = []
            for tap in range(start, stop + 1, second.grid or 1):
                q, f = places(second, first, step, tap)
                ends += [first.stride * q + t for t in first.tap_range(f)]
            found.append((min(ends), max(ends)))
    return tuple(found)


def vanishes(second: Axis, first: Axis, size: int | None) -> bool:
    """Whether the first map's continuation is zero wherever the second one reads it; ``size`` of the first one's input."""
    r, s = first.phase, first.stride
    for j in range(-second.begin, 0):
        if _hits(second, j, None) and s * (j // r) - first.begin + first.tap_range(j % r)[1] >= 0:
            return False
    if second.end <= 0:
        return True
    if size is None:
        return all(
            first.end - first.extent + 1 + s * (d // r) + first.tap_range(d % r)[0] >= 0
            for d in range(-first.crop, -first.crop + min(second.end, r))
        )
    length = first.output(size)
    count = (length + second.room) // second.stride + 1
    last = second.stride * (count - 1) - second.begin + second.extent - 1
    return all(
        s * (j // r) - first.begin + first.tap_range(j % r)[0] >= size for j in range(length, last + 1) if _hits(second, j, count)
    )


def _hits(axis: Axis, place: int, count: int | None) -> bool:
    """Whether any of ``count`` blocks (None: of any number) has a tap at ``place`` of its input."""
    for tap in range(0, axis.extent, axis.grid or 1):
        block, rest = divmod(place + axis.begin - tap, axis.stride)
        if rest == 0 and block >= 0 and (count is None or block < count):
            return True
    return False


def unrolled(axis: Axis, times: int, size: int | None) -> Axis | None:
    """The same map written in blocks ``times`` as long; None where the number of blocks depends on an unknown size."""
    if times == 1:
        return axis
    if size is None:
        return None
    blocks = -(-axis.blocks(size) // times)
    stride, phase = axis.stride * times, axis.phase * times
    extent = axis.extent + axis.stride * (times - 1)
    room = stride * (blocks - 1) - size
    shifts = [
        (axis.stride * u + axis.tap_range(f)[0], axis.stride * u + axis.tap_range(f)[1])
        for u in range(times)
        for f in range(axis.phase)
    ]
    return Axis(
        extent=extent,
        grid=math.gcd(axis.grid, axis.stride) if extent > 1 else 0,
        stride=stride,
        begin=axis.begin,
        end=room - axis.begin + extent,
        phase=phase,
        crop=phase * blocks - axis.output(size),
        support=tuple(shifts),
    )


def factors(axes: Sequence[Axis]) -> list[int] | None:
    """How often each of several axes must be unrolled for all to have one phase and one stride; None if that cannot be."""
    phase = math.lcm(*(a.phase for a in axes))
    times = [phase // a.phase for a in axes]
    return times if len({a.stride * n for a, n in zip(axes, times, strict=True)}) == 1 else None


def union(axes: Sequence[Axis], size: int | None) -> Axis | None:
    """The support of all: axes of one phase and stride side by side. None if their outputs differ in size, or are the same by
    chance of an unknown size.
    """
    begin = max(a.begin for a in axes)
    extent = max(begin - a.begin + a.extent for a in axes)
    if len({(a.room, a.crop) for a in axes}) > 1 and (size is None or len({a.output(size) for a in axes}) > 1):
        return None
    lead, room = axes[0], max(a.room for a in axes)
    blocks = replace(lead, end=room - lead.begin + lead.extent).blocks(size) if size is not None else 0
    crop = lead.crop if size is None else lead.phase * blocks - lead.output(size)
    shifted = [[(begin - a.begin + x, begin - a.begin + y) for x, y in map(a.tap_range, range(a.phase))] for a in axes]
    support = tuple((min(x for x, _ in same), max(y for _, y in same)) for same in zip(*shifted, strict=True))
    return Axis(
        extent=extent,
        grid=math.gcd(*(g for a in axes for g in (a.grid, begin - a.begin))),
        stride=lead.stride,
        begin=begin,
        end=room - begin + extent,
        phase=lead.phase,
        crop=crop,
        support=support if lead.phase > 1 else (),
    )
