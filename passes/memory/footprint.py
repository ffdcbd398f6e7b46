"""How many bytes operators have in use, depending on which of them have run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Tensor:
    """`size` bytes, in use from the operator that writes it until all that touch it have run.

    writer: position of an operator, or None for what is there before the first.
    users: positions of the operators that read or write it. is_kept: in use after the last, too.
    """

    size: int
    writer: int | None
    users: frozenset[int]
    is_kept: bool = False


@dataclass(frozen=True)
class Operators:
    """Operators of a straight-line program, by position in an order that can run.

    after: for each the positions of those that run before it. workspace: for each the bytes that
    only it needs. in_place: for each the pairs (written, read) of positions in `tensors` of which
    one may share bytes if nothing needs what is read afterwards.
    """

    tensors: tuple[Tensor, ...]
    after: tuple[frozenset[int], ...]
    workspace: tuple[int, ...]
    in_place: tuple[tuple[tuple[int, int], ...], ...]


@dataclass(frozen=True)
class State:
    """Some operators have run.

    done, ready: bit masks of those that have run and of those that can be next. live: bytes in
    use now. peak: the most on the way, and no less than any order needs.
    position, before: what ran last, and the state before it; None at the start.
    """

    done: int
    ready: int
    live: int
    peak: int
    position: int | None = None
    before: State | None = field(default=None, repr=False)

    def positions(self) -> tuple[int, ...]:
        """The operators that have run, in order."""
        found: list[int] = []
        state: State | None = self
        while state is not None and state.position is not None:
            found.append(state.position)
            state = state.before
        return tuple(reversed(found))


class Footprint:
    """Leads from state to state of some operators."""

    def __init__(self, operators: Operators) -> None:
        self.operators = operators
        self.count = len(operators.after)
        self.everything = (1 << self.count) - 1
        self._after = [_mask(before) for before in operators.after]
        self._next: list[list[int]] = [[] for _ in range(self.count)]
        for position, before in enumerate(operators.after):
            for earlier in before:
                self._next[earlier].append(position)
        self._users = [_mask(tensor.users) for tensor in operators.tensors]
        self._touched: list[list[int]] = [[] for _ in range(self.count)]
        for index, tensor in enumerate(operators.tensors):
            for user in tensor.users:
                self._touched[user].append(index)

    def start(self) -> State:
        """Nothing has run."""
        tensors = self.operators.tensors
        live = sum(t.size for t in tensors if t.writer is None and (t.users or t.is_kept))
        least = max((self._alone(position) for position in range(self.count)), default=0)
        ready = _mask(i for i, before in enumerate(self._after) if not before)
        return State(0, ready, live, max(live, least))

    def run(self, state: State, position: int) -> State:
        """The state after one more operator, one of those that are ready."""
        done = state.done | 1 << position
        ready = state.ready & ~(1 << position)
        for later in self._next[position]:
            if not self._after[later] & ~done:
                ready |= 1 << later
        made = freed = 0
        for index in self._touched[position]:
            tensor = self.operators.tensors[index]
            made += tensor.size if tensor.writer == position else 0
            freed += tensor.size if self._is_dead(index, done) else 0
        during = state.live + made + self.operators.workspace[position]
        during -= self._shared(position, done)
        peak = max(state.peak, during)
        return State(done, ready, state.live + made - freed, peak, position, state)

    def run_all(self, positions: Iterable[int]) -> State:
        """The state after these operators, in this order."""
        state = self.start()
        for position in positions:
            state = self.run(state, position)
        return state

    def successors(self, state: State) -> Iterator[State]:
        """The states after one more operator, in the given order."""
        return (self.run(state, position) for position in _bits(state.ready))

    def run_free(self, state: State) -> State:
        """Run, again and again, chains that raise neither the peak nor what is in use.

        No order that continues from `state` is better than all of those that begin so.
        """
        after: State | None = state
        while after is not None:
            state = after
            chains = (self._free_chain(state, position) for position in _bits(state.ready))
            after = next((chain for chain in chains if chain is not None), None)
        return state

    def _free_chain(self, state: State, position: int) -> State | None:
        """The state after the shortest such chain from `position`, if there is one.

        Each of its operators waits for the one before it, so in another order a first part of the
        chain may have run, and after that more is in use than after the whole.
        """
        after = self.run(state, position)
        while after.peak <= state.peak and after.live > state.live:
            following = [later for later in self._next[position] if after.ready >> later & 1]
            if len(following) != 1:
                return None
            (position,) = following
            after = self.run(after, position)
        return after if after.peak <= state.peak else None

    def _is_dead(self, index: int, done: int) -> bool:
        """Whether nothing needs a tensor any more."""
        return not self.operators.tensors[index].is_kept and not self._users[index] & ~done

    def _shared(self, position: int, done: int) -> int:
        """Bytes of its result that an operator writes over what it reads."""
        tensors = self.operators.tensors
        return max(
            (
                min(tensors[written].size, tensors[read].size)
                for written, read in self.operators.in_place[position]
                if self._is_dead(read, done)
            ),
            default=0,
        )

    def _alone(self, position: int) -> int:
        """Bytes that an operator needs in any order: all it touches, what it may share once."""
        touched = sum(self.operators.tensors[index].size for index in self._touched[position])
        shared = self._shared(position, self.everything)
        return touched + self.operators.workspace[position] - shared


def _mask(positions: Iterable[int]) -> int:
    return sum(1 << position for position in positions)


def _bits(mask: int) -> Iterator[int]:
    while mask:
        yield (mask & -mask).bit_length() - 1
        mask &= mask - 1
