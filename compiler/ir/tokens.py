"""Tokens of the textual form, with positions for messages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from offramp.compiler.errors import UserError

_PATTERN = re.compile(
    r"""
      (?P<space>(?:\s|\#[^\n]*)+)
    | (?P<value>%(?:"(?:[^"\\]|\\.)*"|[\w./-]*[\w/]))
    | (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<data>(?:sha256|hex):[0-9a-f]*)
    | (?P<number>-?(?:inf|nan|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)(?!\w))
    | (?P<name>[A-Za-z_]\w*)
    | (?P<mark>->|>=|[()\[\]{}:,=.?])
    """,
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True)
class Token:
    """One word of the text.

    kind: "value" (without its %), "string", "data", "number", "name", "mark" or "end".
    """

    kind: str
    text: str
    line: int

    def __str__(self) -> str:
        return "the end of the text" if self.kind == "end" else repr(self.text)


def tokens(text: str) -> Iterator[Token]:
    """All tokens of `text`, comments left out, then one of kind "end".

    Raises:
        UserError: a character that begins no token.
    """
    position, line = 0, 1
    while position < len(text):
        match = _PATTERN.match(text, position)
        if match is None or match.lastgroup is None:
            raise UserError(f"line {line}: {text[position]!r} begins no word of the textual form")
        word = match.group()
        if match.lastgroup == "value":
            yield Token("value", unquoted(word[1:]), line)
        elif match.lastgroup != "space":
            yield Token(match.lastgroup, word, line)
        line += word.count("\n")
        position = match.end()
    yield Token("end", "", line)


def unquoted(word: str) -> str:
    """A quoted word without its quotes, any other as it is.

    Raises:
        UserError: an escape that JSON does not have, or a line break inside the quotes.
    """
    if not word.startswith('"'):
        return word
    try:
        return str(json.loads(word))
    except ValueError as error:
        raise UserError(f"{word} is no quoted text: {error}") from error
