"""How an option is declared: a field of Config, with what its argument and its check need to know."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Numbers:
    """The numbers from `least` to `most`, or between them where they are `excluded`; a `kind` of int: integers."""

    kind: type
    least: float
    most: float = math.inf
    excluded: tuple[float, ...] = (math.inf,)
    metavar: str = "N"

    def __contains__(self, value: Any) -> bool:
        kinds = (int,) if self.kind is int else (int, float)
        return type(value) in kinds and self.least <= value <= self.most and value not in self.excluded

    def __str__(self) -> str:
        kind = "an integer" if self.kind is int else "a number"
        if math.isfinite(self.most):
            return f"{kind} from {self.least:g} to {self.most:.10g}"
        return f"{kind} {'above' if self.least in self.excluded else 'of at least'} {self.least:g}"


SHARE = Numbers(float, 0, 1, metavar="SHARE")
POSITIVE = Numbers(float, 0, excluded=(0, math.inf), metavar="RATE")
COUNT = Numbers(int, 1)
EPOCHS = Numbers(int, 0)
SWITCH = (False, True)


@dataclass(frozen=True)
class Option:
    """What the parser and the check of a value need to know of a field of Config, beside its default."""

    help: str = ""  # none: no argument of its own
    values: Any = str  # the numbers or names that are allowed; a type (str, Path): any
    also: tuple[Any, ...] = ()  # what it may be beside these
    unset: str = ""  # what a default of None means
    study: bool = False  # one of the study's own options
    protocols: Sequence[str] = ()  # that have it; none: all
    script: str = ""  # the only script that has it
    recorded: bool = True  # False: where files lie, or what the record of the encoder holds

    def problem(self, value: Any) -> str:
        """Why a value is refused; empty where it is allowed."""
        if isinstance(self.values, type) or value in self.also or value in self.values:
            return ""
        if isinstance(self.values, tuple):
            return f"{value!r} is none of {', '.join(map(str, self.values))}"
        also = "".join(f", nor {other!r}" for other in self.also if other is not None)
        return f"{value!r} is not {self.values}{also}"


def option(default: Any, help: str = "", values: Any = str, **details: Any) -> Any:
    """A field of Config that a user can set: a switch if its default is False; `details` are those of Option."""
    details = {"values": SWITCH if default is False else values, "recorded": values is not Path, **details}
    return field(default=default, metadata={"option": Option(help, **details)})
