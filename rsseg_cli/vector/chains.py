"""Chains: elements of which each knows the next one, put in order all at once."""

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int32]
Offsets = NDArray[np.int64]  # where each of several parts begins that lie end to end, and where the last one ends

# Chains are cut at least this often, so that a long one is walked at many places side by side.
PIECE = 61


def put_in_order(after: Indices) -> tuple[Indices, Offsets]:
    """(elements chain by chain, offsets of the chains).

    `after` holds the next of each element; `len(after)` is the end of a chain. A chain without an end is a circle and
    begins with its smallest element. Chains are sorted by what they begin with.
    """
    members, pieces, steps, next_piece = _walk(after, _beginnings(after))
    sizes = np.bincount(pieces)
    head, ahead = _join(next_piece, sizes)
    heads = np.flatnonzero(ahead == 0)
    offsets = offsets_of(np.bincount(head, sizes)[heads].astype(np.int64))
    begin = np.zeros_like(ahead)
    begin[heads] = offsets[:-1]
    order = np.empty_like(after)
    order[(begin[head] + ahead)[pieces] + steps] = members
    return order, offsets


def offsets_of(sizes: NDArray[np.int64]) -> Offsets:
    """The offsets of parts of these sizes."""
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return offsets


def _before(after: Indices) -> Indices:
    """What comes before each element; the first of a chain is given itself."""
    before = np.arange(len(after) + 1, dtype=np.int32)
    before[after] = before[:-1].copy()
    return before[:-1]


def _beginnings(after: Indices) -> NDArray[np.bool_]:
    """Where to cut: at the first of each chain, now and then, and at least once in each circle."""
    before, index = _before(after), np.arange(len(after), dtype=np.int32)
    begins: NDArray[np.bool_] = before == index
    begins[::PIECE] = True
    # The smallest of a circle is smaller than all around it. Of the others, looking two steps far leaves a third.
    low = np.flatnonzero((index < before) & (index < after))
    following = np.append(after, np.int32(len(after)))
    begins[low[(low <= before[before[low]]) & (low <= following[after[low]])]] = True
    return begins


def _walk(after: Indices, begins: NDArray[np.bool_]) -> tuple[Indices, Indices, Indices, Indices]:
    """(elements, the piece of each, its place in the piece, the piece after each piece)."""
    at = np.flatnonzero(begins).astype(np.int32)
    piece = np.arange(len(at), dtype=np.int32)
    number = np.full(len(after) + 1, len(at), np.int32)
    number[at] = piece
    stops = np.append(begins, True)
    next_piece = np.empty_like(piece)
    members, pieces = [at], [piece]
    while len(at):
        to = after[at]
        stopped = stops[to]
        next_piece[piece[stopped]] = number[to[stopped]]
        at, piece = to[~stopped], piece[~stopped]
        members.append(at)
        pieces.append(piece)
    steps = np.repeat(np.arange(len(members), dtype=np.int32), [len(part) for part in members])
    return np.concatenate(members), np.concatenate(pieces), steps, next_piece


def _join(after: Indices, sizes: NDArray[np.int64]) -> tuple[Indices, NDArray[np.int64]]:
    """(the piece that begins the chain of each piece, how many elements lie ahead of the piece there)."""
    before, index = _before(after), np.arange(len(after), dtype=np.int32)
    head = _heads(before)
    # Cut open at its head, a circle is a chain like others. Each round sees twice as far back.
    hop = np.where(head == index, index, before)
    ahead = np.where(head == index, 0, sizes[before])
    while not np.array_equal(hop, head):
        ahead += ahead[hop]
        hop = hop[hop]
    return head, ahead


def _heads(before: Indices) -> Indices:
    """The first of each element's chain; in a circle, the smallest."""
    found = np.arange(len(before), dtype=np.int32)
    found[before == found] -= len(before)  # smaller than anything in a circle
    hop = before
    while not np.array_equal(smaller := np.minimum(found, found[hop]), found):
        found, hop = smaller, hop[hop]
    return np.where(found < 0, found + len(before), found).astype(np.int32)
