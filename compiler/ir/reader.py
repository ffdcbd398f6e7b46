"""A cursor over the tokens of a text, with the few moves that its parsers need."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from offramp.compiler.errors import UserError
from offramp.compiler.ir.tokens import Token, tokens, unquoted

T = TypeVar("T")


class Reader:
    """Reads `text` token by token; every failure is a `UserError` that names the line."""

    def __init__(self, text: str) -> None:
        self._tokens = list(tokens(text))
        self._position = 0

    def peek(self) -> Token:
        """The next token, which stays."""
        return self._tokens[self._position]

    def next(self) -> Token:
        """The next token."""
        token = self.peek()
        if token.kind != "end":
            self._position += 1
        return token

    def error(self, message: str) -> UserError:
        """An error at the place just read."""
        line = self._tokens[max(0, self._position - 1)].line
        return UserError(f"line {line}: {message}")

    def accept(self, word: str) -> bool:
        """Read `word` if it is next."""
        token = self.peek()
        if token.kind in ("name", "mark") and token.text == word:
            self.next()
            return True
        return False

    def expect(self, word: str) -> None:
        """Read `word`."""
        token = self.peek()
        if not self.accept(word):
            raise UserError(f"line {token.line}: expected {word!r}, found {token}")

    def name(self) -> str:
        """A bare or quoted name."""
        return unquoted(self._of_kind("a name", "name", "string"))

    def value_name(self) -> str:
        """The name of a value, written `%name`."""
        return self._of_kind("a value such as %x", "value")

    def number(self) -> str:
        """A number as it is written."""
        return self._of_kind("a number", "number")

    def integer(self) -> int:
        """A whole number."""
        word = self.number()
        try:
            return int(word)
        except ValueError as error:
            raise self.error(f"expected a whole number, found {word!r}") from error

    def listed(self, opening: str, item: Callable[[], T], closing: str) -> list[T]:
        """Items between brackets, separated by commas."""
        self.expect(opening)
        items: list[T] = []
        while not self.accept(closing):
            if items:
                self.expect(",")
            items.append(item())
        return items

    def _of_kind(self, what: str, *kinds: str) -> str:
        token = self.next()
        if token.kind not in kinds:
            raise UserError(f"line {token.line}: expected {what}, found {token}")
        return token.text
