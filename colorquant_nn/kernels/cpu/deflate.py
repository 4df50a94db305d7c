"""Indices that deflate stores in few bits, on the CPU: what `functional.rate` is made of.

Letters: H rows, W columns, K colours, B bands of rows. Costs are in units of the error.

Each row is a shortest path: to every pixel on the way leads a literal, or a copy of earlier pixels,
right or only nearly so, that began further back. Copies come from decided rows, or repeat the last
few pixels of the path itself. Of each distance only the copy that is cheapest so far goes on, so
that a pixel costs as many steps as there are distances, however long copies are. Bands know nothing
of each other: what each does does not depend on when the others do it.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn.kernels.cpu.runtime import FUSED, kernel, next_task, run, subroutine

WINDOW = 1 << 15  # bytes that deflate looks back
LONGEST = 258  # pixels of a copy
SHORTEST = 3
DISTANCES = 30  # codes
REPEATED = 4  # pixels at most, that are repeated within a row
NEAR = np.array(
    [(1, across) for across in (0, -1, 1, -2, 2, -3, 3, -4, 4)]
    + [(2, across) for across in (0, -1, 1, -2, 2)]
    + [(3, 0), (4, 0)]
)  # rows up, columns to the right: where copies always may come from;
SLOTS = 12  # and so many more places, which change from pixel to pixel
OFFERS = 4  # of these from each list of places where the same colours were
ENTRIES = 1 << 14  # such lists, of 3 and of 6 colours
PLACE_BITS = 32  # of a place, for its column
PLACES = 1 << PLACE_BITS
FAR = np.float32(1e15)  # where there is no colour; its square is finite
NEVER = np.float32(1e30)
# The code of each distance less 1 (RFC 1951, section 3.2.5): two for each number of extra bits.
CODES = np.repeat(
    np.arange(DISTANCES, dtype=np.uint8), [1, 1] + [1 << bits for bits in range(14) for _ in (0, 1)]
)
LITERAL, COPY, REPEAT, SOLID = 0, 1, 2, 3  # ways to a pixel; the last one: a literal, repeated

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


class Row(NamedTuple):
    """What its pixels are to be."""

    targets: Floats
    """(W, 4) points, with a share of the errors above."""
    weights: Floats
    kinds: NDArray[np.uint8]
    literals: Ints
    """The colour of each that is cheapest as a literal,"""
    literal_costs: Floats
    """and what that costs with its error."""


class Decided(NamedTuple):
    """What is known of the rows of a band that are decided, pixel after pixel."""

    indices: Ints
    colors: Floats
    """(H W, 4)."""
    ups: Ints
    """From how many rows above it is a copy; 0: it is none."""
    acrosses: Ints
    """And from how many pixels to the right."""
    places: NDArray[np.int64]
    """(2, ENTRIES, OFFERS) where the same 3, or 6, colours were, the latest first."""


def choose_indices(
    points: Tensor,
    weights: Tensor,
    kinds: Tensor,
    colors: Tensor,
    allowed: Tensor,
    costs: Tensor,
    diffusion: float,
) -> tuple[Tensor, Tensor]:
    """See `colorquant_nn.kernels.choose_indices`."""
    height, width = kinds.shape
    bands, num_colors = len(costs), len(colors)
    palettes = np.full((len(allowed), 4, num_colors), FAR)
    for palette, rows in zip(palettes, allowed.numpy(), strict=True):
        palette[:, rows] = colors.numpy()[rows].T
    indices = np.empty((height, width), np.int32)
    counts = np.zeros(costs.shape, np.int64)
    target = (
        *(x.contiguous().numpy() for x in (points, weights, kinds)),
        not bool(allowed.all()),
    )
    run(
        _choose, bands, (60.0 + 0.5 * num_colors) * height * width,
        target, palettes, colors.contiguous().numpy(),
        costs.contiguous().numpy(), np.float32(diffusion), (indices, counts),
    )  # fmt: skip
    return torch.from_numpy(indices), torch.from_numpy(counts)


@kernel(FUSED)
def _choose(counter, num_tasks, target, palettes, colors, costs, diffusion, results):
    points, weights, kinds, picky = target
    indices, counts = results
    height, width = kinds.shape
    band = -(-height // num_tasks)
    size = band * width
    targets = np.empty((width, 4), np.float32)
    literals = np.empty(width, np.int32)
    literal_costs = np.empty(width, np.float32)
    candidates = np.empty(len(colors), np.float32)
    errors = np.zeros((width + 2, 4), np.float32)  # of the row above, and zeros beside them
    drawn = np.empty((size, 4), np.float32)
    ups, acrosses = np.empty(size, np.int32), np.empty(size, np.int32)
    places = np.empty((2, ENTRIES, OFFERS), np.int64)
    while True:
        task = next_task(counter)
        if task >= num_tasks:
            break
        top = task * band
        prices = (
            costs[task, : len(colors)],
            costs[task, len(colors) : -DISTANCES],
            costs[task, -DISTANCES:],
        )
        used = (
            counts[task, : len(colors)],
            counts[task, len(colors) : -DISTANCES],
            counts[task, -DISTANCES:],
        )
        decided = Decided(indices.reshape(-1)[top * width :], drawn, ups, acrosses, places)
        errors[:] = 0
        places[:] = -1
        for number in range(min(band, height - top)):
            row = Row(targets, weights[top + number], kinds[top + number], literals, literal_costs)
            _choose_literals(
                row, points[top + number], errors, diffusion, palettes, prices[0], candidates
            )
            path = _find_path(row, number, palettes, prices, decided, picky)
            _store(path, number, decided, used)
            _pass_on(row, number, colors, decided, errors)


@subroutine(inline="always")
def _choose_literals(row, points, errors, diffusion, palettes, prices, candidates):
    """The cheapest for what the row is to be: its points, and a share of the errors above."""
    targets, weights, kinds, literals, literal_costs = row
    order = candidates.view(np.int32)  # of floats that are not negative: the same order
    for column in range(len(points)):
        palette = palettes[kinds[column]]
        weight = weights[column]
        for axis in range(4):
            targets[column, axis] = points[column, axis] + diffusion * (
                errors[column, axis]
                + np.float32(2) * errors[column + 1, axis]
                + errors[column + 2, axis]
            )
        first, second, third, fourth = targets[column]
        for index in range(len(candidates)):
            a = palette[0, index] - first
            b = palette[1, index] - second
            c = palette[2, index] - third
            d = palette[3, index] - fourth
            candidates[index] = weight * (a * a + b * b + c * c + d * d) + prices[index]
        least = order[0]
        for index in range(len(order)):
            least = min(least, order[index])
        best = 0
        while order[best] != least:
            best += 1
        literals[column] = best
        literal_costs[column] = candidates[best]


@subroutine(inline="always")
def _begin_copies(number, width, prices):
    """One for each place to copy from; only those of `NEAR` are known.

    What each costs so far, and to begin anew; how many pixels back it reads, where it began, and
    where it must end.
    """
    num_slots = len(NEAR) + SLOTS
    costs = np.empty(num_slots, np.float32)
    headers = np.empty(num_slots, np.float32)
    backs = np.empty(num_slots, np.int32)
    starts = np.empty(num_slots, np.int32)
    ends = np.empty(num_slots, np.int32)
    for slot in range(num_slots):
        costs[slot] = headers[slot] = NEVER
        backs[slot] = starts[slot] = ends[slot] = 0
        if slot < len(NEAR):
            up, across = NEAR[slot]
            distance = up * (width + 1) - across  # a byte more in each row, its filter
            if up <= number and abs(across) < width and distance <= WINDOW:
                backs[slot] = up * width - across
                ends[slot] = width - max(0, across)
                headers[slot] = prices[CODES[distance - 1]]
    return costs, headers, backs, starts, ends


@subroutine(inline="always")
def _find_path(row, number, palettes, prices, decided, picky):
    """The cheapest way to each pixel: how it ends, how long that is, and its origin.

    That is a colour, how many pixels back a copy reads, or the period of a repetition.
    """
    targets, weights, kinds, literals, literal_costs = row
    literal_prices, length_prices, distance_prices = prices
    indices, drawn, ups, acrosses, places = decided
    width = len(literals)
    num_slots = len(NEAR) + SLOTS
    costs = np.empty(width + 1, np.float32)
    ways = np.empty(width + 1, np.int32)
    steps = np.empty(width + 1, np.int32)
    origins = np.empty(width + 1, np.int32)
    latest = np.empty((width + 1, REPEATED), np.int32)  # colours before it, the nearest first
    ending = np.full(LONGEST + 2, NEVER, np.float32)  # a copy of so many pixels
    for size in range(SHORTEST, LONGEST + 1):
        ending[size] = length_prices[size]
    copies = _begin_copies(number, width, distance_prices)
    running, headers, backs, starts, ends = copies
    misses = np.empty(num_slots, np.float32)  # what the next pixel costs
    reached = np.empty(num_slots, np.float32)  # what it costs to end there
    repeats = np.empty(REPEATED + 1, np.float32)  # of 1, 2 ... pixels; the last one: of one colour
    since = np.empty(REPEATED + 1, np.int32)
    turns = np.empty(REPEATED + 1, np.int32)  # which pixel of the pattern is next
    patterns = np.empty((REPEATED + 1, REPEATED), np.int32)
    repeats[:] = NEVER
    latest[0] = -1
    costs[0] = 0
    for column in range(width):
        here = costs[column]
        palette = palettes[kinds[column]]
        weight = weights[column]
        first, second, third, fourth = targets[column]
        if column > 0:
            way = ways[column]
            origin = origins[column]
            before = column - steps[column]
            for back in range(REPEATED):
                place = column - 1 - back
                if place < before:
                    latest[column, back] = latest[before, before - 1 - place]
                elif way == COPY:
                    latest[column, back] = indices[number * width + place - origin]
                elif way == REPEAT:
                    latest[column, back] = latest[before, origin - 1 - (place - before) % origin]
                else:
                    latest[column, back] = origin
        least = here + literal_costs[column]
        way = LITERAL
        step = 1
        origin = literals[column]
        for kind in range(REPEATED + 1):
            # Begin, if that is cheaper than to go on.
            if kind < REPEATED:
                cost = here + distance_prices[kind]
                if latest[column, kind] >= 0 and cost < repeats[kind]:
                    repeats[kind] = cost
                    since[kind] = column
                    turns[kind] = kind
                    for back in range(kind + 1):
                        patterns[kind, back] = latest[column, back]
            elif column + 2 < width:
                index = literals[column + 2]
                cost = here + literal_prices[index] + distance_prices[0]
                if cost < repeats[kind]:
                    repeats[kind] = cost
                    since[kind] = column
                    turns[kind] = 0
                    patterns[kind, 0] = index
            if repeats[kind] >= NEVER:
                continue
            size = column + 1 - since[kind]
            period = kind + 1 if kind < REPEATED else 1
            turn = turns[kind]
            index = patterns[kind, turn]
            turns[kind] = turn - 1 if turn > 0 else period - 1
            a = palette[0, index] - first
            b = palette[1, index] - second
            c = palette[2, index] - third
            d = palette[3, index] - fourth
            repeats[kind] += weight * (a * a + b * b + c * c + d * d)
            solid = kind == REPEATED  # its first pixel is a literal
            if size - solid >= SHORTEST:
                cost = repeats[kind] + length_prices[size - solid]
                if cost < least:
                    least = cost
                    way = SOLID if solid else REPEAT
                    step = size
                    origin = patterns[kind, 0] if solid else period
                if size == LONGEST:
                    repeats[kind] = NEVER
        if number > 0 and column + SHORTEST <= width:
            # Places that copies above came from, and where the next colours were before.
            for beside in range(max(0, column - 1), min(width, column + 2)):
                up = ups[(number - 1) * width + beside]
                if up > 0:
                    across = acrosses[(number - 1) * width + beside]
                    if up <= number and 0 <= column + across < width:
                        _offer(copies, distance_prices, width, up, across)
            for which in range(2):
                length = SHORTEST * (which + 1)
                if column + length > width:
                    break
                for place in places[which, _look_up(literals, column, length)]:
                    if place < 0:
                        break
                    up = number - (place >> PLACE_BITS)
                    across = (place & (PLACES - 1)) - column
                    _offer(copies, distance_prices, width, up, across)
        # Loops without branches, which run in several lanes.
        here_place = number * width + column
        for slot in range(num_slots):
            misses[slot] = NEVER
            if column >= ends[slot] or (slot < len(NEAR) and column < -NEAR[slot, 1]):
                continue
            place = here_place - backs[slot]
            a = drawn[place, 0] - first
            b = drawn[place, 1] - second
            c = drawn[place, 2] - third
            d = drawn[place, 3] - fourth
            misses[slot] = weight * (a * a + b * b + c * c + d * d)
            if picky and palette[0, indices[place]] == FAR:
                misses[slot] = NEVER
        for slot in range(num_slots):
            cost = here + headers[slot]
            starts[slot] = column if cost < running[slot] else starts[slot]
            running[slot] = min(cost, running[slot]) + misses[slot]
        for slot in range(num_slots):
            size = min(column + 1 - starts[slot], LONGEST + 1)
            reached[slot] = running[slot] + ending[size]
        cheapest = NEVER
        for slot in range(num_slots):
            cheapest = min(cheapest, reached[slot])
        if cheapest < min(least, NEVER):
            slot = 0
            while reached[slot] != cheapest:  # others may be no number
                slot += 1
            least = cheapest
            way = COPY
            step = column + 1 - starts[slot]
            origin = backs[slot]
        for slot in range(num_slots):
            longest = column + 1 - starts[slot] == LONGEST
            running[slot] = NEVER if longest else running[slot]
        costs[column + 1] = least
        ways[column + 1] = way
        steps[column + 1] = step
        origins[column + 1] = origin
    return ways, steps, origins


@subroutine()
def _offer(copies, prices, width, up, across):
    """A place to copy from takes the slot of the one that is the furthest from being used."""
    costs, headers, backs, _, ends = copies
    back = np.int32(up * width - across)
    distance = back + up  # a byte more in each row, its filter
    if distance > WINDOW:
        return
    known = 0
    for slot in range(len(NEAR) + SLOTS):
        known |= backs[slot] == back
    if known:
        return
    highest = costs[len(NEAR)]
    for slot in range(len(NEAR), len(NEAR) + SLOTS):
        highest = max(highest, costs[slot])
    chosen = len(NEAR)
    while costs[chosen] < highest:
        chosen += 1
    backs[chosen] = back
    ends[chosen] = width - across
    headers[chosen] = prices[CODES[distance - 1]]
    costs[chosen] = NEVER


@subroutine()
def _look_up(row, column, count):
    """Which list of places has those of these ``count`` colours."""
    key = 0
    for step in range(count):
        key = 61 * key + row[column + step]
    return (key ^ (key >> 14)) & (ENTRIES - 1)


@subroutine(inline="always")
def _store(path, number, decided, used):
    """Go back along the cheapest way, then forward: write down indices, and count symbols."""
    ways, steps, origins = path
    literals, lengths, distances = used
    indices, _, ups, acrosses, _ = decided
    width = len(ways) - 1
    line = indices[number * width :]
    stops = np.empty(width, np.int32)
    parts = 0
    column = width
    while column > 0:
        stops[parts] = column
        parts += 1
        column -= steps[column]
    for part in range(parts - 1, -1, -1):
        column = stops[part]
        before = column - steps[column]
        origin = origins[column]
        way = ways[column]
        size = column - before
        distance = origin if way == REPEAT else 1
        up, across = 0, 0
        if way == COPY:
            up = number - (number * width + before - origin) // width
            across = up * width - origin
            distance = origin + up
        for place in range(before, column):
            ups[number * width + place] = up
            acrosses[number * width + place] = across
            if way == COPY:
                line[place] = indices[number * width + place - origin]
            elif way == REPEAT:
                line[place] = line[place - origin]
            else:
                line[place] = origin
        if way in (LITERAL, SOLID):
            literals[origin] += 1
            size -= 1
        if way != LITERAL:
            lengths[size] += 1
            distances[CODES[distance - 1]] += 1


@subroutine(inline="always")
def _pass_on(row, number, colors, decided, errors):
    """Leave to the rows below what they need: colours, errors, and places."""
    targets, _, kinds, literals, _ = row
    indices, drawn, _, _, places = decided
    width = len(literals)
    line = indices[number * width :]
    for column in range(width):
        index = line[column]
        for axis in range(4):
            drawn[number * width + column, axis] = colors[index, axis]
            errors[column + 1, axis] = targets[column, axis] - colors[index, axis]
            if kinds[column] == 0:
                errors[column + 1, axis] = 0
        for which in range(2):
            length = SHORTEST * (which + 1)
            if column + length <= width:
                list_of = places[which, _look_up(line, column, length)]
                for offer in range(OFFERS - 1, 0, -1):
                    list_of[offer] = list_of[offer - 1]
                list_of[0] = number << PLACE_BITS | column
