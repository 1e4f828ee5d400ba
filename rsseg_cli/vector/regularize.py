"""Buildings squared: right angles and few corners in the place of pixels, with neighbours that follow.

For each ring around a chosen region a square one is proposed. It is taken if it stays close to the ring, and if all
lines still meet where they met, and nowhere else. Whatever does not fit is left as it is.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np

from rsseg_cli.vector.chains import offsets_of
from rsseg_cli.vector.collisions import Change, colliding
from rsseg_cli.vector.coverage import Coverage, Lines
from rsseg_cli.vector.proposals import End, Proposal, propose
from rsseg_cli.vector.right_angles import Complexes


def regularize(coverage: Coverage, ids: Collection[int]) -> tuple[Coverage, int]:
    """(the coverage with the regions of these ids squared, how many of them were left as they are)."""
    regions = np.flatnonzero(np.isin(coverage.ids, list(ids)))
    taken = _independent(propose(coverage, regions))
    change = moved(coverage, taken)
    while wrong := colliding(coverage, change, taken):
        taken = [proposal for number, proposal in enumerate(taken) if number not in wrong]
        change = moved(coverage, taken)
    return replace(coverage, lines=change.lines), len(regions) - sum(proposal.is_shell for proposal in taken)


def _independent(proposals: Iterable[Proposal]) -> list[Proposal]:
    """Those that share neither a node nor an arc with one before them."""
    taken, nodes = [], set[int]()
    for proposal in proposals:
        mine = set(proposal.nodes.tolist())
        if nodes.isdisjoint(mine):
            nodes |= mine
            taken.append(proposal)
    return taken


def moved(coverage: Coverage, proposals: Sequence[Proposal]) -> Change:
    """What becomes of the lines: rings become square, and the other lines that end at them still do."""
    points: dict[int, Complexes] = {}
    ends: dict[int, End] = {}
    owner = np.full(len(coverage.region), -1, np.int32)
    for number, proposal in enumerate(proposals):
        for side, piece in zip(proposal.sides.tolist(), proposal.pieces, strict=True):
            points[side >> 1] = piece[::-1] if side & 1 else piece
        ends |= {end.side: end for end in proposal.ends}
        owner[[*proposal.sides, *(proposal.sides ^ 1), *(end.side for end in proposal.ends)]] = number
    for arc in {side >> 1 for side in ends}:
        points[arc] = _led(coverage.lines, arc, ends.get(2 * arc), ends.get(2 * arc + 1))
    return Change(_with(coverage.lines, points), owner)


def _led(lines: Lines, arc: int, begin: End | None, end: End | None) -> Complexes:
    """The line of an arc between other ends, if there are any."""
    points = slice(lines.offsets[arc], lines.offsets[arc + 1])
    line = lines.x[points] + 1j * lines.y[points]
    inner = line[1 + (begin.lost if begin else 0) : len(line) - 1 - (end.lost if end else 0)]
    return np.concatenate([[begin.place if begin else line[0]], inner, [end.place if end else line[-1]]])


def _with(lines: Lines, points: dict[int, Complexes]) -> Lines:
    """The lines with other points for some arcs."""
    if not points:
        return lines
    arcs = np.array(sorted(points), np.int64)
    sizes = np.diff(lines.offsets)
    stays = np.ones(len(sizes), bool)
    stays[arcs] = False
    was = np.repeat(stays, sizes)
    sizes[arcs] = [len(points[arc]) for arc in arcs]
    is_old = np.repeat(stays, sizes)
    xy = np.empty((2, len(is_old)))
    xy[:, is_old] = lines.x[was], lines.y[was]
    new = np.concatenate([points[arc] for arc in arcs])
    xy[:, ~is_old] = new.real, new.imag
    return Lines(xy[0], xy[1], offsets_of(sizes))
