"""How an option is declared: a field of Config, with what its argument and its check need to know."""

import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Numbers:
    """The numbers of one kind, int or float, from `least` to `most`."""

    kind: type[int] | type[float]
    words: str
    least: float = 0
    most: float = sys.float_info.max  # not infinity
    metavar: str = "N"

    def __contains__(self, value: Any) -> bool:
        return type(value) is self.kind and self.least <= value <= self.most


SHARE = Numbers(float, "a number from 0 to 1", most=1, metavar="SHARE")
WEIGHT = Numbers(float, "a number of at least 0", metavar="WEIGHT")
POSITIVE = Numbers(float, "a number above 0", least=math.ulp(0), metavar="RATE")
COUNT = Numbers(int, "an integer of at least 1", least=1)
EPOCHS = Numbers(int, "an integer of at least 0")
# Beyond 32 bits, two seeds can give the same random numbers.
SEED = Numbers(int, "an integer from 0 to 4294967295", most=2**32 - 1)
SWITCH = (False, True)


@dataclass(frozen=True)
class Option:
    """What the argument and the check of a field of Config need to know."""

    default: Any  # always allowed
    help: str = ""  # none: no argument of its own
    values: Any = str  # the numbers or names that are allowed; a type (str, Path): any
    also: tuple[str, ...] = ()  # words that are allowed beside numbers
    unset: str = ""  # what a default of None means
    study: bool = False  # one of the study's own options
    protocols: Sequence[str] = ()  # that have it; none: all
    script: str = ""  # the only script that has it
    metavar: str = "NAME"
    recorded: bool = True  # False: where files lie, or what the record of the encoder holds

    def parse(self, text: str) -> Any:
        """The value that an argument gives; a text that is not a number is left for Config to refuse."""
        if isinstance(self.values, tuple):
            return text
        with suppress(ValueError):
            return self.values.kind(text) if isinstance(self.values, Numbers) else self.values(text)
        return text

    def problem(self, value: Any) -> str:
        """Why a value is refused; empty where it is allowed."""
        if value is self.default or value in self.also:
            return ""
        if self.values is Path and str(value).startswith(("http:/", "https:/")):  # Path joins slashes
            return f"{str(value).replace(':/', '://', 1)} is a web address; download the file first"
        if isinstance(self.values, type):
            return "" if isinstance(value, self.values | None) else f"{value!r} is no {self.values.__name__.lower()}"
        if value in self.values:
            return ""
        allowed = (self.values.words, *self.also) if isinstance(self.values, Numbers) else map(str, self.values)
        hint = "; separate several by spaces" if isinstance(value, str) and "," in value else ""
        return f"{value!r} is not allowed (allowed: {', '.join(allowed)}{hint})"


def option(default: Any, help: str = "", values: Any = str, **details: Any) -> Any:
    """A field of Config that a user can set: a switch if its default is False; `details` are those of Option."""
    details = {"values": SWITCH if default is False else values, "recorded": values is not Path, **details}
    return field(default=default, metadata={"option": Option(default, help, **details)})
