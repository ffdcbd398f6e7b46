"""The compiled inner loop of the exact search: depth first over floors, with failed states.

A state is the floor of every section (below it nothing more will be placed), the bytes that a
section still has to take, and the lowest offset of every buffer that is not placed. The two are
propagated to a fixed point: a buffer lies no lower than the floors it stands on, a floor is no
lower than the lowest buffer that could lie on it. A state is dead if some floor plus the bytes
still to come exceed the capacity.

The search branches in a valley, a run of sections at one floor whose neighbours are higher: either
one of the buffers that fit into it lies on its floor, or the floor rises to the next offset at
which anything could be supported. Every placement whose buffers have been pushed down is reached
that way, so exhausting the branches proves that there is none. Failed states are kept and compared
in full: the hash only says where to look, a proof never rests on it.

A failure is the fault of the sections that its proof looked at. A choice that changed none of them
is not tried otherwise: the search goes back past it (conflict-directed backjumping, Prosser, 1993).
So a part of the instance that was placed is not placed again because another one cannot be.

All compiled functions live in this one file because numba's cache watches the file of the outermost
function only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.uint8]
F = TypeVar("F", bound=Callable[..., object])

FAILED, SOLVED, STOPPED = 0, 1, 2
"""What a search ends with: no placement exists, one was found, or the node budget was spent."""
CAPACITY, NODES, BUDGET, BONUS, STEPS = 0, 1, 2, 3, 4
"""Positions in `Search.counters`."""
RAISE = -1
"""The option to lift the floor instead of placing a buffer."""
SUPPORT_LOST, NEW_FLOOR = 1, 2
"""Why a section is in the queue."""
FAR = 1 << 62
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
SHIFT = np.uint64(29)
ZERO, ONE = np.uint64(0), np.uint64(1)


class Search(NamedTuple):
    """An instance and the state of its search; n buffers by first section, m sections by time.

    size, first, last: [n], bytes and half-open range of sections. twin: [n], the buffer before it
        that is identical, or -1. rank: [n], smaller is tried first.
    starts: [m + 1], members: the buffers of section i are members[starts[i]:starts[i + 1]].
    by_first, by_last: [m + 1], [m + 2], how many buffers start, or end, in an earlier section.
    starters, enders: [n], buffers by first section, and by the end of their last.
    sums: [2, many], of sizes of buffers that end, or start, between two sections.
    floor, rest: [m]. low: [n], the offset once placed. placed: [n].
    support: [m], a buffer of each section that can lie on its floor, or lower.
    counts: [m], what `count_options` gave, or -1 once the section or one of its buffers changed.
    queue, queued: [m], sections that await propagation. failures: [m], where states were dead.
    saved_*: the state on entering each depth. options: [depth, width]; section and raised: [depth].
    scores: [width], by which the options being listed are sorted, the smallest first.
    keys: [depth, 2 + m + words of 64 buffers], the states in full.
    tags: [slots], hash of the state in each row of `table`, which failed.
    reads, writes: [steps, words of 64 sections], what each step up to here looked at, and changed.
    conflict: [words], the sections whose fault the last failure was. blamed: [depth, words], the
        same for the options at each depth that have failed.
    counters: capacity, nodes so far, budget of nodes, a bonus: by how many ranks a buffer is tried
        earlier for each side on which it leaves no step; and how many steps were taken up to here.
    """

    size: Ints
    first: Ints
    last: Ints
    twin: Ints
    rank: Ints
    starts: Ints
    members: Ints
    by_first: Ints
    by_last: Ints
    enders: Ints
    starters: Ints
    sums: Ints
    floor: Ints
    rest: Ints
    low: Ints
    placed: Flags
    support: Ints
    counts: Ints
    queue: Ints
    queued: Flags
    failures: Ints
    saved_floor: Ints
    saved_rest: Ints
    saved_low: Ints
    saved_support: Ints
    saved_counts: Ints
    saved_placed: Flags
    options: Ints
    scores: Ints
    section: Ints
    raised: Ints
    keys: Ints
    tags: Words
    table: Ints
    reads: Words
    writes: Words
    conflict: Words
    blamed: Words
    counters: Ints


def compiled(function: F) -> F:
    """Compile with numba; the machine code is cached where some folder can be written to.

    Nothing here makes an array, so references to arrays need not be counted: doing that atomically
    at every access took two thirds of the time.
    """
    try:
        return numba.njit(cache=True, _nrt=False)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # neither the package's folder nor the user's cache can be written to
        return numba.njit(function, _nrt=False)  # type: ignore[no-any-return]


@compiled
def mark(sections: Words, lo: Any, hi: Any) -> None:
    """Add sections lo..hi to a set."""
    for i in range(lo, hi):
        sections[i >> 6] |= ONE << np.uint64(i & 63)


@compiled
def clear(sections: Words) -> None:
    """Empty a set of sections."""
    for word in range(sections.shape[0]):
        sections[word] = ZERO


@compiled
def assign(to: Words, sections: Words) -> None:
    """Make one set of sections equal to another."""
    for word in range(to.shape[0]):
        to[word] = sections[word]


@compiled
def meet(a: Words, b: Words) -> bool:
    """Whether two sets of sections have one in common."""
    common = ZERO
    for word in range(a.shape[0]):
        common |= a[word] & b[word]
    return bool(common != ZERO)


@compiled
def unite(a: Words, b: Words) -> None:
    """Add the sections of b to a."""
    for word in range(a.shape[0]):
        a[word] |= b[word]


@compiled
def propagate(s: Search, waiting: int, step: int) -> bool:
    """Reach the fixed point from the sections in the queue; False if the state is dead."""
    floors, rest, low, placed = s.floor, s.rest, s.low, s.placed
    reads, writes = s.reads[step], s.writes[step]
    alive = True
    while waiting > 0:
        waiting -= 1
        i = s.queue[waiting]
        has_new_floor = s.queued[i] == NEW_FLOOR
        s.queued[i] = 0
        if not alive or rest[i] == 0:
            continue
        s.support[i] = lowest_member(placed, low, s.members[s.starts[i] : s.starts[i + 1]])
        floor = int(low[s.support[i]])
        if floor > floors[i]:
            floors[i] = floor
            s.counts[i] = -1
            mark(reads, i, i + 1)
            mark(writes, i, i + 1)
        elif not has_new_floor:
            continue
        floor = int(floors[i])
        if floor + rest[i] > s.counters[CAPACITY]:
            s.failures[i] += 1
            mark(reads, i, i + 1)
            alive = False
            continue
        for k in range(s.starts[i], s.starts[i + 1]):
            b = s.members[k]
            if not placed[b] and low[b] < floor:
                waiting = lift(s, b, floor, waiting)
                mark(reads, i, i + 1)
                mark(writes, s.first[b], s.last[b])
        for j in range(max(i, 1), min(i + 2, floors.shape[0])):
            alive, waiting = lift_crossing(s, j, waiting, step)
            if not alive:
                s.failures[i] += 1
                break
    return alive


@compiled
def lift_crossing(s: Search, j: int, waiting: int, step: int) -> tuple[bool, int]:
    """Raise what crosses from section j - 1 to j; whether it can lie anywhere, the queue's length.

    Below it lies nothing but buffers that end or start there.
    """
    level = common_level(s, j)
    if level == 0:
        return True, waiting
    for k in range(s.starts[j], s.starts[j + 1]):
        b = s.members[k]
        if s.placed[b] or s.first[b] == j or s.low[b] >= level:
            continue
        mark(s.reads[step], j - 1, j + 1)
        if level == FAR:
            return False, waiting
        waiting = lift(s, b, level, waiting)
        mark(s.writes[step], s.first[b], s.last[b])
    return True, waiting


@compiled
def common_level(s: Search, j: int) -> int:
    """The lowest offset to which both sections j - 1 and j can be filled without what crosses.

    Sums of buffers that end or start between them must bring both floors to one level, but for the
    bytes that each section may waste. FAR: there is none. 0: the higher floor, or not known.
    """
    left, right = s.floor[j - 1], s.floor[j]
    if left == right or s.rest[j - 1] == 0 or s.rest[j] == 0:
        return 0
    spare_left = s.counters[CAPACITY] - left - s.rest[j - 1]
    spare_right = s.counters[CAPACITY] - right - s.rest[j]
    if 0 <= right - left <= spare_left or 0 <= left - right <= spare_right:
        return 0
    lefts = sums(s, s.enders, s.by_last[j], s.by_last[j + 1], 0)
    rights = sums(s, s.starters, s.by_first[j], s.by_first[j + 1], 1)
    if lefts == 0 or rights == 0:
        return 0
    lowest = FAR
    for a in range(lefts):
        of_left = left + s.sums[0, a]
        for b in range(rights):
            of_right = right + s.sums[1, b]
            if -spare_left <= of_left - of_right <= spare_right:
                lowest = min(lowest, max(of_left, of_right))
    return lowest


@compiled
def sums(s: Search, buffers: Ints, start: int, end: int, side: int) -> int:
    """Write the sums of all subsets of the unplaced buffers; how many: 0 if there are too many."""
    found = s.sums[side]
    count = 1
    found[0] = 0
    for k in range(start, end):
        b = buffers[k]
        if s.placed[b]:
            continue
        if 2 * count > found.shape[0]:
            return 0
        for at in range(count):
            found[count + at] = found[at] + s.size[b]
        count *= 2
    return count


@compiled
def lift(s: Search, b: int, floor: int, waiting: int) -> int:
    """Raise the lowest offset of b; queue the sections that it supported; the queue's length."""
    floors, before = s.floor, s.low[b]
    s.low[b] = floor
    for j in range(s.first[b], s.last[b]):
        if floors[j] == before or floors[j] == floor:
            s.counts[j] = -1
        if s.support[j] == b and not s.queued[j] and floors[j] < floor:
            s.queued[j] = SUPPORT_LOST
            s.queue[waiting] = j
            waiting += 1
    return waiting


@compiled
def lowest_member(placed: Flags, low: Ints, members: Ints) -> int:
    """The one of these buffers, not all placed, that can lie lowest."""
    lowest, found = FAR, -1
    for b in members:
        if not placed[b] and low[b] < lowest:
            lowest, found = low[b], b
    return found


@compiled
def apply(s: Search, depth: int, option: int, step: int) -> bool:
    """Take an option at the section chosen at `depth`; False if the state is dead.

    What is looked at is added to the reads of `step`; its writes are new.
    """
    i = s.section[depth]
    clear(s.writes[step])
    if option == RAISE:
        s.floor[i] = s.raised[depth]
        s.counts[i] = -1
        s.queue[0] = i
        s.queued[i] = NEW_FLOOR
        mark(s.writes[step], i, i + 1)
        return propagate(s, 1, step)
    top = s.low[option] + s.size[option]
    s.placed[option] = 1
    waiting = 0
    mark(s.writes[step], s.first[option], s.last[option])
    for j in range(s.first[option], s.last[option]):
        s.floor[j] = top
        s.counts[j] = -1
        s.rest[j] -= s.size[option]
        s.queue[waiting] = j
        s.queued[j] = NEW_FLOOR
        waiting += 1
    return propagate(s, waiting, step)


@compiled
def is_option(placed: Flags, low: Ints, twin: Ints, b: int, floor: int) -> bool:
    """Whether b may be the next one on this floor; identical buffers come in a fixed order."""
    if placed[b] or low[b] != floor:
        return False
    return bool(twin[b] < 0 or placed[twin[b]] != 0)


@compiled
def count_options(s: Search, i: int) -> int:
    """Twice the buffers that may lie on the floor of section i, and one if it has slack."""
    placed, low, twin, members = s.placed, s.low, s.twin, s.members
    floor = s.floor[i]
    count = 1 if floor + s.rest[i] < s.counters[CAPACITY] else 0
    for k in range(s.starts[i], s.starts[i + 1]):
        if is_option(placed, low, twin, members[k], floor):
            count += 2
    return count


@compiled
def choose(s: Search, lo: int, hi: int, near: int) -> int:
    """The section of a valley with the fewest options; then the lowest, then the nearest."""
    floors, rest = s.floor, s.rest
    chosen, fewest, lowest, nearest = -1, FAR, FAR, FAR
    left, i = FAR, lo
    while i < hi:
        floor = floors[i] if rest[i] else FAR
        end = i + 1
        while end < hi and (floors[end] if rest[end] else FAR) == floor:
            end += 1
        right = floors[end] if end < hi and rest[end] else FAR
        if floor < left and floor < right:
            for j in range(i, end):
                if s.counts[j] < 0:
                    s.counts[j] = count_options(s, j)
                count, away = s.counts[j], abs(j - near)
                if count < fewest or (
                    count == fewest and (floor < lowest or (floor == lowest and away < nearest))
                ):
                    chosen, fewest, lowest, nearest = j, count, floor, away
        left, i = floor, end
    return chosen


@compiled
def level_sides(s: Search, b: int, floor: int) -> int:
    """On how many sides a buffer on this floor would leave no step: 0, 1 or 2."""
    top, left, right = floor + s.size[b], s.first[b] - 1, s.last[b]
    sides = 0
    if left < 0 or s.rest[left] == 0 or s.floor[left] == top:
        sides += 1
    if right == s.floor.shape[0] or s.rest[right] == 0 or s.floor[right] == top:
        sides += 1
    return sides


@compiled
def list_options(s: Search, i: int, depth: int, step: int) -> int:
    """Write what can be done at section i, best rank first, raising last; returns how many.

    What is looked at are the reads of `step`.
    """
    placed, low, twin, rank = s.placed, s.low, s.twin, s.rank
    clear(s.reads[step])
    mark(s.reads[step], i, i + 1)
    floor = s.floor[i]
    options = s.options[depth]
    count = 0
    for k in range(s.starts[i], s.starts[i + 1]):
        b = s.members[k]
        if not is_option(placed, low, twin, b, floor):
            continue
        key = rank[b] - s.counters[BONUS] * level_sides(s, b, floor)
        at = count
        while at > 0 and s.scores[at - 1] > key:
            options[at], s.scores[at] = options[at - 1], s.scores[at - 1]
            at -= 1
        options[at], s.scores[at] = b, key
        count += 1
    s.section[depth] = i
    slack = s.counters[CAPACITY] - floor - s.rest[i]
    if slack > 0:
        s.raised[depth] = next_support(s, i, s.reads[step])
        if s.raised[depth] - floor <= slack:
            options[count] = RAISE
            count += 1
    return count


@compiled
def next_support(s: Search, i: int, reads: Words) -> int:
    """The lowest offset above its floor that a buffer of section i, in a valley, can have.

    A buffer pushed down lies on another one. The lowest of the section lies on one that is not in
    the section and not placed, since all that is placed ends at the floor or below. That goes for
    the whole valley, which is looked at up to its walls.
    """
    first, last, placed, low = s.first, s.last, s.placed, s.low
    floor, lowest, left, right = s.floor[i], FAR, i, i + 1
    for k in range(s.starts[i], s.starts[i + 1]):
        b = s.members[k]
        if placed[b]:
            continue
        if low[b] > floor:
            lowest = min(lowest, low[b])
        else:
            left, right = min(left, first[b]), max(right, last[b])
    mark_valley(s, i, reads)
    mark(reads, left, right)
    for under in range(s.by_first[right]):
        if not placed[under] and (left < last[under] <= i or first[under] > i):
            lowest = min(lowest, low[under] + s.size[under])
    return int(lowest)


@compiled
def mark_valley(s: Search, i: int, reads: Words) -> None:
    """Add the sections at the floor of section i around it, and those that end them, to a set."""
    floor, left, right = s.floor[i], i, i
    while left > 0 and s.rest[left] and s.floor[left] == floor:
        left -= 1
    while right < s.floor.shape[0] - 1 and s.rest[right] and s.floor[right] == floor:
        right += 1
    mark(reads, left, right + 1)


@compiled
def save(s: Search, lo: int, hi: int, depth: int) -> None:
    """Keep the state of sections lo..hi and of the buffers that start there."""
    for i in range(lo, hi):
        s.saved_floor[depth, i] = s.floor[i]
        s.saved_rest[depth, i] = s.rest[i]
        s.saved_support[depth, i] = s.support[i]
        s.saved_counts[depth, i] = s.counts[i]
    for b in range(s.by_first[lo], s.by_first[hi]):
        s.saved_low[depth, b] = s.low[b]
        s.saved_placed[depth, b] = s.placed[b]


@compiled
def restore(s: Search, lo: int, hi: int, depth: int) -> None:
    """Undo what happened since `save`."""
    for i in range(lo, hi):
        s.floor[i] = s.saved_floor[depth, i]
        s.rest[i] = s.saved_rest[depth, i]
        s.support[i] = s.saved_support[depth, i]
        s.counts[i] = s.saved_counts[depth, i]
    for b in range(s.by_first[lo], s.by_first[hi]):
        s.low[b] = s.saved_low[depth, b]
        s.placed[b] = s.saved_placed[depth, b]


@compiled
def write_key(s: Search, lo: int, hi: int, depth: int) -> int:
    """Write the state of a component, in full, to the row of this depth; the row's length.

    How low buffers can lie follows from floors and from what is placed, on whatever way found.
    Floors of sections where all is placed do not matter. Flags of 64 buffers share a word.
    """
    key, floors, rest, placed = s.keys[depth], s.floor, s.rest, s.placed
    key[0], key[1] = lo, hi
    at = 2
    for i in range(lo, hi):
        key[at] = floors[i] if rest[i] else -1
        at += 1
    end = s.by_first[hi]
    for b in range(s.by_first[lo], end, 64):
        word = np.int64(0)
        for c in range(b, min(b + 64, end)):
            word = (word << 1) | np.int64(placed[c])
        key[at] = word
        at += 1
    return at


@compiled
def key_length(s: Search, lo: int, hi: int) -> int:
    """Words of the state of a component."""
    return int(2 + hi - lo + (s.by_first[hi] - s.by_first[lo] + 63) // 64)


@compiled
def hash_key(key: Ints, length: int) -> np.uint64:
    """Where to look for a state; never 0."""
    mixed = np.uint64(length)
    for at in range(length):
        mixed = (mixed ^ np.uint64(key[at])) * MULTIPLIER
        mixed ^= mixed >> SHIFT
    return mixed | np.uint64(1)


@compiled
def has_failed(s: Search, depth: int, length: int) -> bool:
    """Whether the state of this depth is known to fail, compared in full."""
    tag = hash_key(s.keys[depth], length)
    slot = np.int64((tag >> SHIFT) % np.uint64(s.tags.shape[0]))
    if s.tags[slot] != tag:
        return False
    row, key = s.table[slot], s.keys[depth]
    at = 0
    while at < length and row[at] == key[at]:
        at += 1
    return at == length


@compiled
def remember(s: Search, depth: int, length: int) -> None:
    """Keep the state of this depth as one that fails, in place of what hashed there before."""
    tag = hash_key(s.keys[depth], length)
    slot = np.int64((tag >> SHIFT) % np.uint64(s.tags.shape[0]))
    s.tags[slot] = tag
    for at in range(length):
        s.table[slot, at] = s.keys[depth, at]


@compiled
def next_unplaced(placed: Flags, b: int, end: int) -> int:
    """The first buffer from b on that is not placed, or end."""
    while b < end and placed[b]:
        b += 1
    return b


@compiled
def component_end(s: Search, b: int, end: int) -> tuple[int, int]:
    """The last section of the component that starts with b, and the first buffer beyond it."""
    reach = s.last[b]
    b = next_unplaced(s.placed, b + 1, end)
    while b < end and s.first[b] < reach:
        reach = max(reach, s.last[b])
        b = next_unplaced(s.placed, b + 1, end)
    return reach, b


@compiled
def advance(s: Search, lo: int, hi: int, depth: int, near: int) -> int:
    """Do what there is no choice about. How many options there are then: 0, the state is dead.

    One option left means that the component is placed or fell apart, after the option was taken.
    Every step that was taken is counted; where no more of them can be, the budget is spent.
    """
    end = s.by_first[hi]
    while True:
        s.counters[NODES] += 1
        step = s.counters[STEPS]
        if step >= s.reads.shape[0]:
            s.counters[BUDGET] = 0
            return 0
        count = list_options(s, choose(s, lo, hi, near), depth, step)
        if count == 0:
            assign(s.conflict, s.reads[step])
        if count != 1 or s.counters[NODES] > s.counters[BUDGET]:
            return count
        if not apply(s, depth, s.options[depth, 0], step):
            assign(s.conflict, s.reads[step])
            return 0
        s.counters[STEPS] += 1
        near = s.section[depth]
        b = next_unplaced(s.placed, s.by_first[lo], end)
        if b == end or s.first[b] != lo or component_end(s, b, end)[0] != hi:
            return 1


@compiled
def open_choice(s: Search, lo: int, hi: int, depth: int, count: int) -> int:
    """Begin to try options, `count` or none if the state has failed before; how many to try.

    All of a state that has failed is blamed: how low buffers could lie then is not known any more.
    """
    length = write_key(s, lo, hi, depth)
    if has_failed(s, depth, length):
        clear(s.blamed[depth])
        mark(s.blamed[depth], lo, hi)
        return 0
    save(s, lo, hi, depth)
    assign(s.blamed[depth], s.reads[s.counters[STEPS]])
    s.counters[STEPS] += 1
    return count


@compiled
def apply_choice(s: Search, depth: int, position: int, step: int) -> bool:
    """Take one of several options; False, and the conflict, if the state is dead."""
    clear(s.reads[step])
    alive = apply(s, depth, s.options[depth, position], step)
    if not alive:
        assign(s.conflict, s.reads[step])
    return alive


@compiled
def blame(s: Search, depth: int, step: int) -> bool:
    """Note why an option failed; False if no other one at this depth could do better."""
    if not meet(s.writes[step], s.conflict):
        assign(s.blamed[depth], s.conflict)
        return False
    unite(s.blamed[depth], s.conflict)
    unite(s.blamed[depth], s.reads[step])
    return True


@compiled
def close_choice(s: Search, lo: int, hi: int, depth: int, step: int) -> None:
    """All options failed: remember that, and whose fault it is."""
    assign(s.conflict, s.blamed[depth])
    remember(s, depth, key_length(s, lo, hi))
    s.counters[STEPS] = step


@compiled
def explain(s: Search, since: int) -> None:
    """Forget the steps from number `since` on; the conflict becomes one of the state before."""
    for step in range(s.counters[STEPS] - 1, since - 1, -1):
        if meet(s.writes[step], s.conflict):
            unite(s.conflict, s.reads[step])
    s.counters[STEPS] = since


@compiled
def search(s: Search, lo: int, hi: int, depth: int, near: int) -> int:
    """Place the rest of the buffers in sections lo..hi, which no other ones cross.

    near: the section where something was placed last. On success `s.low` holds the offsets; after
    a failure `s.conflict` says whose fault it is, and the state is spoilt: whoever called restores
    it.
    """
    if depth + 1 >= s.saved_floor.shape[0]:
        return STOPPED
    end = s.by_first[hi]
    b = next_unplaced(s.placed, s.by_first[lo], end)
    whole, result = False, SOLVED
    while b < end and not whole and result == SOLVED:
        left = s.first[b]
        right, b = component_end(s, b, end)
        whole = left == lo and right == hi
        if not whole:
            result = search(s, left, right, depth + 1, near)
    if not whole:
        return result
    since, result = s.counters[STEPS], FAILED
    count = advance(s, lo, hi, depth, near)
    if s.counters[NODES] > s.counters[BUDGET]:
        return STOPPED
    if count == 1:
        result = search(s, lo, hi, depth + 1, s.section[depth])
    elif count > 1:
        step = s.counters[STEPS]
        for position in range(open_choice(s, lo, hi, depth, count)):
            if position:
                restore(s, lo, hi, depth)
            alive = apply_choice(s, depth, position, step)
            result = search(s, lo, hi, depth + 1, s.section[depth]) if alive else FAILED
            if result != FAILED:
                return result
            if not blame(s, depth, step):
                break
        close_choice(s, lo, hi, depth, step)
    if result == FAILED:
        explain(s, since)
    return result


@compiled
def dive(s: Search) -> int:
    """Take the best option again and again, for capacities that are no limit; without recursion."""
    m, n = s.floor.shape[0], s.size.shape[0]
    near, result = 0, SOLVED
    while result == SOLVED and next_unplaced(s.placed, 0, n) < n:
        s.counters[NODES] += 1
        list_options(s, choose(s, 0, m, near), 0, 0)
        near = s.section[0]
        if not apply(s, 0, s.options[0, 0], 0):
            result = FAILED
    return result
