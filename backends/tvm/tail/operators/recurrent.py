"""RNN, GRU and LSTM, unrolled over a sequence of static length.

The inputs' share of all gates is one matrix product for the whole sequence; each step adds the
state's share and applies the gates. A step beyond a sample's `sequence_lens` leaves its state as
it is and gives zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from offramp.backends.tvm.tail.operators.context import OperatorCall
from offramp.backends.tvm.tail.refusal import RefusalError
from offramp.backends.tvm.tail.untyped import relax

MAX_STEPS = 256
"""Longer sequences are refused: the code grows with each step."""

State = tuple[Any, ...]
Activation = Callable[[Any], Any]


@dataclass(frozen=True)
class Cell:
    """One direction of one layer.

    wx: `[steps, batch, gates * hidden]`, the inputs' share with all biases that need no state.
    r: `[hidden, gates * hidden]`. bias: `[hidden]`, the recurrent bias of a GRU's candidate.
    peepholes: `[hidden]` each for the input, output and forget gates, or none.
    """

    wx: Any
    r: Any
    bias: Any
    peepholes: tuple[Any, ...]
    activations: tuple[Activation, ...]
    hidden: int


Step = Callable[["Recurrence", Cell, Any, State], State]
"""From the inputs' share of one step and the state to the next state, the output first."""


class Recurrence:
    """Lowers one node; `emit` names every intermediate value once."""

    def __init__(self, call: OperatorCall, gates: int, states: int) -> None:
        self.op = relax.op
        self.call = call
        self.gates = gates
        self.states = states
        self.hidden = call.type_of(2).shape[2]
        self.batch_first = bool(call.attribute("layout", 0))
        self.direction = call.attribute("direction", "forward")
        if call.attribute("clip", None) is not None:
            raise RefusalError("clipping is not supported")
        if call.attribute("input_forget", 0):
            raise RefusalError("coupled input and forget gates are not supported")
        x = call.expression(0)
        self.x = self.emit(relax.op.permute_dims(x, [1, 0, 2])) if self.batch_first else x
        self.steps, self.batch, _ = (int(extent) for extent in self.x.ty.shape)
        if self.steps > MAX_STEPS:
            raise RefusalError(
                f"{self.steps} steps are too many to unroll, at most {MAX_STEPS} are"
            )

    def emit(self, expression: Any) -> Any:
        """Bind an expression to a variable."""
        return self.call.emit(expression)

    def run(self, step: Step, defaults: Sequence[str]) -> list[Any]:
        """All outputs: the sequence of outputs, then the last states."""
        count = 2 if self.direction == "bidirectional" else 1
        directions = [
            self._direction(step, d, self._activations(defaults, d)) for d in range(count)
        ]
        sequences = [sequence for sequence, _ in directions]
        result = self.emit(self.op.stack(sequences, axis=1))
        lasts = [
            self.emit(self.op.stack([states[s] for _, states in directions], axis=0))
            for s in range(self.states)
        ]
        if self.batch_first:
            result = self.emit(self.op.permute_dims(result, [2, 0, 1, 3]))
            lasts = [self.emit(self.op.permute_dims(last, [1, 0, 2])) for last in lasts]
        return [result, *lasts]

    def _direction(
        self, step: Step, direction: int, activations: tuple[Activation, ...]
    ) -> tuple[Any, State]:
        cell = self._cell(direction, activations)
        state = tuple(self._initial(position, direction) for position in range(self.states))
        backward = self.direction == "reverse" or direction == 1
        order = range(self.steps)
        outputs: list[Any] = [None] * self.steps
        for time in reversed(order) if backward else order:
            share = self._row(cell.wx, time)
            new = step(self, cell, share, state)
            state, outputs[time] = self._within_length(time, new, state)
        return self.emit(self.op.stack(outputs, axis=0)), state

    def _within_length(self, time: int, new: State, old: State) -> tuple[State, Any]:
        if self.call.operand(4) is None:
            return new, new[0]
        lengths = self.emit(self.op.reshape(self.call.expression(4), (self.batch, 1)))
        limit = self.call.constant_expression(np.array(time), "int32")
        runs = self.emit(self.op.greater(lengths, limit))
        kept = tuple(self.emit(self.op.where(runs, n, o)) for n, o in zip(new, old, strict=True))
        return kept, self.emit(self.op.where(runs, new[0], self.op.zeros_like(new[0])))

    def _cell(self, direction: int, activations: tuple[Activation, ...]) -> Cell:
        width = self.gates * self.hidden
        w = self._transposed(1, direction)
        r = self._transposed(2, direction)
        wx = self.emit(self.op.matmul(self.x, w))
        candidate = self.call.constant_expression(np.zeros(self.hidden), "float32")
        if self.call.operand(3) is not None:
            biases = self._row(self.call.expression(3), direction)
            of_inputs, of_state = self._slice(biases, 0, width), self._slice(biases, width, width)
            if self.gates == 3:  # a GRU may scale the candidate's recurrent bias by its reset gate
                candidate = self._slice(of_state, 2 * self.hidden, self.hidden)
                zeros = self.call.constant_expression(np.zeros(self.hidden), "float32")
                gates = self._slice(of_state, 0, 2 * self.hidden)
                of_state = self.emit(self.op.concat([gates, zeros], axis=0))
            wx = self.emit(self.op.add(wx, self.emit(self.op.add(of_inputs, of_state))))
        peepholes: tuple[Any, ...] = ()
        if self.call.operand(7) is not None:
            row = self._row(self.call.expression(7), direction)
            peepholes = tuple(self._slice(row, i * self.hidden, self.hidden) for i in range(3))
        return Cell(wx, r, candidate, peepholes, activations, self.hidden)

    def _initial(self, position: int, direction: int) -> Any:
        operand = self.call.operand(5 + position)
        if operand is None:
            zeros = np.zeros((self.batch, self.hidden))
            return self.call.constant_expression(zeros, self.call.type_of(0).dtype)
        state = self.call.expression(5 + position)
        if self.batch_first:
            state = self.emit(self.op.permute_dims(state, [1, 0, 2]))
        return self._row(state, direction)

    def _activations(self, defaults: Sequence[str], direction: int) -> tuple[Activation, ...]:
        count = len(defaults)
        given = [a.decode() for a in self.call.attributes.get("activations", ())]
        names = given[direction * count :][:count] or list(defaults)
        known = {"Sigmoid": self.op.sigmoid, "Tanh": self.op.tanh, "Relu": self.op.nn.relu}
        for name in names:
            if name not in known:
                raise RefusalError(f"activation {name!r} is not supported: {', '.join(known)} are")
        return tuple(known[name] for name in names)

    def _transposed(self, position: int, direction: int) -> Any:
        row = self._row(self.call.expression(position), direction)
        return self.emit(self.op.permute_dims(row, [1, 0]))

    def _row(self, tensor: Any, index: int) -> Any:
        part = self.emit(self.op.strided_slice(tensor, [0], [index], [index + 1]))
        return self.emit(self.op.squeeze(part, [0]))

    def _slice(self, vector: Any, start: int, size: int) -> Any:
        return self.emit(self.op.strided_slice(vector, [0], [start], [start + size]))

    def gate(self, gates: Any, position: int) -> Any:
        """One gate's columns of `[batch, gates * hidden]`."""
        start = position * self.hidden
        return self.emit(self.op.strided_slice(gates, [1], [start], [start + self.hidden]))


def rnn(call: OperatorCall) -> list[Any]:
    """RNN: h = f(Wx + Rh + b)."""

    def step(r: Recurrence, cell: Cell, share: Any, state: State) -> State:
        total = r.op.add(share, r.op.matmul(state[0], cell.r))
        return (r.emit(cell.activations[0](r.emit(total))),)

    return Recurrence(call, 1, 1).run(step, ["Tanh"])


def gru(call: OperatorCall) -> list[Any]:
    """GRU: gates z, r and the candidate h; the reset gate acts before or after the product."""
    after = bool(call.attribute("linear_before_reset", 0))

    def step(r: Recurrence, cell: Cell, share: Any, state: State) -> State:
        h, (f, g) = state[0], cell.activations
        hidden = cell.hidden
        r_gates = r.emit(r.op.strided_slice(cell.r, [1], [0], [2 * hidden]))
        r_candidate = r.emit(r.op.strided_slice(cell.r, [1], [2 * hidden], [3 * hidden]))
        gates = r.emit(r.op.matmul(h, r_gates))
        update = r.emit(f(r.emit(r.op.add(r.gate(share, 0), r.gate(gates, 0)))))
        reset = r.emit(f(r.emit(r.op.add(r.gate(share, 1), r.gate(gates, 1)))))
        if after:
            inner = r.op.add(r.emit(r.op.matmul(h, r_candidate)), cell.bias)
            recurrent = r.op.multiply(reset, r.emit(inner))
        else:
            scaled = r.emit(r.op.multiply(reset, h))
            recurrent = r.op.add(r.emit(r.op.matmul(scaled, r_candidate)), cell.bias)
        candidate = r.emit(g(r.emit(r.op.add(r.gate(share, 2), r.emit(recurrent)))))
        change = r.emit(r.op.multiply(update, r.emit(r.op.subtract(h, candidate))))
        return (r.emit(r.op.add(candidate, change)),)

    return Recurrence(call, 3, 1).run(step, ["Sigmoid", "Tanh"])


def lstm(call: OperatorCall) -> list[Any]:
    """LSTM: gates i, o, f and the candidate c, with optional peepholes."""

    def step(r: Recurrence, cell: Cell, share: Any, state: State) -> State:
        (h, c), (f, g, out) = state, cell.activations
        gates = r.emit(r.op.add(share, r.emit(r.op.matmul(h, cell.r))))
        i, o, forget, candidate = (r.gate(gates, position) for position in range(4))

        def peep(gate: Any, position: int, memory: Any) -> Any:
            if not cell.peepholes:
                return gate
            seen = r.emit(r.op.multiply(cell.peepholes[position], memory))
            return r.emit(r.op.add(gate, seen))

        keep = r.emit(r.op.multiply(r.emit(f(peep(forget, 2, c))), c))
        add = r.emit(r.op.multiply(r.emit(f(peep(i, 0, c))), r.emit(g(candidate))))
        memory = r.emit(r.op.add(keep, add))
        opened = r.emit(f(peep(o, 1, memory)))
        return r.emit(r.op.multiply(opened, r.emit(out(memory)))), memory

    return Recurrence(call, 4, 2).run(step, ["Sigmoid", "Tanh", "Tanh"])
