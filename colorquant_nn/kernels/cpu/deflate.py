"""Indices that deflate stores in few bits, on the CPU: what `functional.rate` is made of.

Letters: H rows, W columns, K colours, B bands of rows. Costs are in units of the error.

Each row is a shortest path: to every pixel on the way leads a literal, or a copy of earlier pixels,
right or only nearly so, that began further back. Copies come from decided rows, or repeat the last
few pixels of the path itself. Of each distance only the copy that is cheapest so far goes on, so
that a pixel costs as many steps as there are distances, however long copies are. Bands know nothing
of each other: what each does does not depend on when the others do it.
"""

# mypy: disable-error-code="no-untyped-def"

import numpy as np
import torch
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
LITERAL, COPY, REPEAT, SOLID = 0, 1, 2, 3  # ways to a pixel


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


@kernel(FUSED)
def _choose(counter, num_tasks, target, palettes, colors, costs, diffusion, results):
    points, weights, kinds, picky = target
    indices, counts = results
    height, width = kinds.shape
    decided = indices.reshape(-1)
    num_near = len(NEAR)
    num_slots = num_near + SLOTS
    band = -(-height // num_tasks)
    stride = width + 1  # a byte more, the filter of the row
    targets = np.empty((width, 4), np.float32)
    errors = np.zeros((width + 2, 4), np.float32)  # of the row above, and zeros beside them
    distances_to = np.empty(len(colors), np.float32)
    order = distances_to.view(np.int32)  # of floats that are not negative: the same order
    literals = np.empty(width, np.int32)
    literal_costs = np.empty(width, np.float32)
    # The cheapest way to each pixel: what it costs, how it ends, how long that is, from where.
    total = np.empty(width + 1, np.float32)
    ways = np.empty(width + 1, np.int32)
    steps = np.empty(width + 1, np.int32)
    origins = np.empty(width + 1, np.int32)
    latest = np.empty((width + 1, REPEATED), np.int32)  # colours before it, the nearest first
    # Copies that go on: what each costs so far, and to begin anew; how far back it reads, where it
    # began, and where it must end.
    running = np.empty(num_slots, np.float32)
    headers = np.empty(num_slots, np.float32)
    backs = np.empty(num_slots, np.int32)
    starts = np.empty(num_slots, np.int32)
    ends = np.empty(num_slots, np.int32)
    copies = running, headers, backs, starts, ends
    misses = np.empty(num_slots, np.float32)  # what the next pixel costs
    reached = np.empty(num_slots, np.float32)  # what it costs to end there
    ending = np.full(LONGEST + 2, NEVER, np.float32)  # a copy of so many pixels
    repeats = np.empty(REPEATED + 1, np.float32)  # of 1, 2 ... pixels; the last one: of one colour
    since = np.empty(REPEATED + 1, np.int32)
    turns = np.empty(REPEATED + 1, np.int32)  # which pixel of the pattern is next
    patterns = np.empty((REPEATED + 1, REPEATED), np.int32)
    path = np.empty(width, np.int32)
    copied = np.empty((band, width), np.int32)  # from how many rows above, 0: it is no copy;
    shifted = np.empty((band, width), np.int32)  # and how many pixels to the right
    drawn = np.empty((band * width, 4), np.float32)  # the colours of decided pixels
    lists = np.empty((2, ENTRIES, OFFERS), np.int64)  # of places, the latest first
    while True:
        task = next_task(counter)
        if task >= num_tasks:
            break
        top = task * band
        literal_prices = costs[task, : len(colors)]
        length_prices = costs[task, len(colors) : -DISTANCES]
        distance_prices = costs[task, -DISTANCES:]
        literal_counts = counts[task, : len(colors)]
        length_counts = counts[task, len(colors) : -DISTANCES]
        distance_counts = counts[task, -DISTANCES:]
        for size in range(SHORTEST, LONGEST + 1):
            ending[size] = length_prices[size]
        errors[:] = 0
        lists[:] = -1
        for row in range(top, min(height, top + band)):
            line = indices[row]
            # Literals, of what the row is to be: its points, and a share of the errors above.
            for column in range(width):
                palette = palettes[kinds[row, column]]
                weight = weights[row, column]
                for axis in range(4):
                    targets[column, axis] = points[row, column, axis] + diffusion * (
                        errors[column, axis]
                        + np.float32(2) * errors[column + 1, axis]
                        + errors[column + 2, axis]
                    )
                first, second, third, fourth = targets[column]
                for index in range(len(colors)):
                    a = palette[0, index] - first
                    b = palette[1, index] - second
                    c = palette[2, index] - third
                    d = palette[3, index] - fourth
                    distances_to[index] = (
                        weight * (a * a + b * b + c * c + d * d) + literal_prices[index]
                    )
                least = order[0]
                for index in range(len(order)):
                    least = min(least, order[index])
                best = 0
                while order[best] != least:
                    best += 1
                literals[column] = best
                literal_costs[column] = distances_to[best]
            # The shortest path.
            for slot in range(num_slots):
                running[slot] = NEVER
                headers[slot] = NEVER
                backs[slot] = 0
                starts[slot] = 0
                ends[slot] = 0
                if slot < num_near:
                    up, across = NEAR[slot]
                    distance = up * stride - across
                    if row - up >= top and abs(across) < width and distance <= WINDOW:
                        backs[slot] = up * width - across
                        ends[slot] = width - max(0, across)
                        headers[slot] = distance_prices[CODES[distance - 1]]
            repeats[:] = NEVER
            latest[0] = -1
            total[0] = 0
            for column in range(width):
                here = total[column]
                palette = palettes[kinds[row, column]]
                weight = weights[row, column]
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
                            latest[column, back] = decided[row * width + place - origin]
                        elif way == REPEAT:
                            latest[column, back] = latest[
                                before, origin - 1 - (place - before) % origin
                            ]
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
                        solid = literals[column + 2]
                        cost = here + literal_prices[solid] + distance_prices[0]
                        if cost < repeats[kind]:
                            repeats[kind] = cost
                            since[kind] = column
                            turns[kind] = 0
                            patterns[kind, 0] = solid
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
                if row > top and column + SHORTEST <= width:
                    # Places that copies above came from, and where the next colours were before.
                    for beside in range(max(0, column - 1), min(width, column + 2)):
                        up = copied[row - 1 - top, beside]
                        if up > 0:
                            across = shifted[row - 1 - top, beside]
                            if row - up >= top and 0 <= column + across < width:
                                _offer(copies, distance_prices, width, up, across)
                    for which in range(2):
                        length = SHORTEST * (which + 1)
                        if column + length > width:
                            break
                        for place in lists[which, _look_up(literals, column, length)]:
                            if place < 0:
                                break
                            up = row - (place >> PLACE_BITS)
                            across = (place & (PLACES - 1)) - column
                            _offer(copies, distance_prices, width, up, across)
                # Loops without branches, which run in several lanes.
                here_place = (row - top) * width + column
                for slot in range(num_slots):
                    misses[slot] = NEVER
                    if column >= ends[slot] or (slot < num_near and column < -NEAR[slot, 1]):
                        continue
                    place = here_place - backs[slot]
                    a = drawn[place, 0] - first
                    b = drawn[place, 1] - second
                    c = drawn[place, 2] - third
                    d = drawn[place, 3] - fourth
                    misses[slot] = weight * (a * a + b * b + c * c + d * d)
                    if picky and palette[0, decided[top * width + place]] == FAR:
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
                total[column + 1] = least
                ways[column + 1] = way
                steps[column + 1] = step
                origins[column + 1] = origin
            # Back along it, then forward.
            parts = 0
            column = width
            while column > 0:
                path[parts] = column
                parts += 1
                column -= steps[column]
            for part in range(parts - 1, -1, -1):
                column = path[part]
                before = column - steps[column]
                origin = origins[column]
                way = ways[column]
                size = column - before
                distance = origin if way == REPEAT else 1
                if way == COPY:
                    up = row - (row * width + before - origin) // width
                    across = up * width - origin
                    distance = origin + up
                else:
                    up = 0
                    across = 0
                for place in range(before, column):
                    copied[row - top, place] = up
                    shifted[row - top, place] = across
                    if way == COPY:
                        line[place] = decided[row * width + place - origin]
                    elif way == REPEAT:
                        line[place] = line[place - origin]
                    else:
                        line[place] = origin
                if way in (LITERAL, SOLID):
                    literal_counts[origin] += 1
                    size -= 1
                if way != LITERAL:
                    length_counts[size] += 1
                    distance_counts[CODES[distance - 1]] += 1
            for column in range(width):
                index = line[column]
                for axis in range(4):
                    drawn[(row - top) * width + column, axis] = colors[index, axis]
                    errors[column + 1, axis] = targets[column, axis] - colors[index, axis]
                    if kinds[row, column] == 0:
                        errors[column + 1, axis] = 0
                for which in range(2):
                    length = SHORTEST * (which + 1)
                    if column + length <= width:
                        places = lists[which, _look_up(line, column, length)]
                        for offer in range(OFFERS - 1, 0, -1):
                            places[offer] = places[offer - 1]
                        places[0] = row << PLACE_BITS | column
