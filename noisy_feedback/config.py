"""Everything a user can set, with its default. Imports nothing heavy: `--help` and errors in arguments come at once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from noisy_feedback.errors import InputError

LOSSES = (  # functions of learning/losses.py, with - for _
    "study",
    "bradley-terry",
    "plackett-luce",
    "hinge",
    "label-smoothing",
    "robust",
    "symmetric-sigmoid",
    "dr-dpo",
    "holder-dpo",
    "re-po",
)
NOISES = (  # functions of feedback/noise.py, with - for _; the last two are the published code's
    "uniform",
    "adjacent",
    "reversed",
    "least-confident",
    "redrawn",
    "redrawn-off-scale",
)
LABELS = ("all", "one", "majority", "gold", "flipped")  # judgements to learn from: feedback/people.py
HEADS = ("categorical", "scalar")
POOLINGS = ("model", "cls", "mean")
SELECT = ("accuracy", "macro_f1", "kappa")
DEPARTURES = ("labels", "noise", "order")  # of the published code from its own description
ESTIMATED = "estimated"  # a flip rate: that of the audit
DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
SEEDS = (84, 42, 21, 2, 1)  # of the study's sweep; main.py takes the first
RATIOS = (0.0, 0.2, 0.4, 0.6, 0.8)  # of the study's sweep

# The fields of Config that a sweep takes several values of; columns of its tables. The order is that of the runs.
# But for the seed, only what changes feedback or fine-tuning: each seed is trained once.
SWEEP_AXES = ("seed", "labels", "loss", "kl_weight", "noise", "ratio")
COMBINATION = tuple(axis for axis in SWEEP_AXES if axis not in ("seed", "ratio"))


@dataclass(frozen=True)
class Config:
    """One run. The defaults are the study's, but for the encoder (the study: bert-base-uncased, pooling cls)."""

    protocol: str  # a key of PROTOCOLS: how comparisons are made
    # data
    path: Path = Path("../data/")  # a file of reviews, or a folder that holds one
    text_column: str = "Review"
    rating_column: str = "Rating"
    group_column: str | None = None  # rows with the same value stay in one part of the split
    comparisons: Path | None = None  # a file of comparisons that people made: the protocol `human`
    shuffle: bool = False  # permute the rows before they are split
    drop_empty: bool = False  # drop rows without text
    drop_duplicates: bool = False  # keep the first of equal texts
    # embeddings
    model_name: str = DEFAULT_ENCODER
    pooling: str = "model"
    pc: bool = False  # use pre-calculated embeddings, never embed
    use_cuda: bool = False
    # training
    seed: int = SEEDS[0]
    head: str = "categorical"
    hidden: tuple[int, ...] = (64, 32)  # widths of the hidden layers
    epochs_t: int = 100
    lr_t: float = 0.01
    batch_t: int = 64
    # feedback
    labels: str = "all"  # which judgements of people
    noise: str = "uniform"
    ratio: float = 0.0
    k: int = 1  # comparisons per list of k + 1 reviews
    lists: int | None = None  # at most so many comparisons, drawn at random; None: as many as can be made
    lists_per_review: int = 1  # how often lists are drawn from all reviews
    list_order: str = "rating"  # "row": the published code's
    # fine-tuning
    loss: str = "study"
    kl_weight: float = 0.0
    flip_rate: float | str | None = None  # None: what noise and ratio imply; ESTIMATED: what the audit finds
    epochs_f: int = 20
    lr_f: float = 1e-3
    batch_f: int = 512
    # evaluation
    select: str = "accuracy"  # the validation score that chooses the best epoch
    validation_ratings: str = "own"  # "misaligned": the published code's, of other reviews
    output: Path = Path("results/")
    name: str | None = None  # of the results folder; None: made from the configuration
    export: Path | None = None  # where a run writes its comparisons as a preference data set

    def __post_init__(self) -> None:
        """Refuse values that no option could have given. Errors: ValueError, naming the field or the options."""
        for name, least in LEAST.items():
            if isinstance(least, float) and type(getattr(self, name)) is int:
                object.__setattr__(self, name, float(getattr(self, name)))  # 1 and 1.0 are one configuration
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: {getattr(self, name)!r} is none of {', '.join(map(str, allowed))}")
        for name, least in LEAST.items():
            values = getattr(self, name)
            for value in values if isinstance(values, tuple) else (values,):
                kinds = (int,) if isinstance(least, int) else (int, float)
                if value in NO_NUMBERS.get(name, ()):
                    continue
                if type(value) not in kinds or not least <= value < MOST.get(name, math.inf):
                    raise ValueError(
                        f"{name}: {value!r} is not {'a whole' if kinds == (int,) else 'a'} number in range"
                    )
        if self.head == "scalar" and self.loss == "robust" and not self.kl_weight:
            raise InputError(
                "--head scalar --loss robust: this loss falls without limit as the outputs grow; give a --kl-weight "
                "above 0, or another loss"
            )

    def sort_key(self) -> tuple[Any, ...]:
        """Runs of a sweep in the order of their axes."""
        orders = {"labels": LABELS, "loss": LOSSES, "noise": NOISES}
        values = ((axis, getattr(self, axis)) for axis in SWEEP_AXES)
        return tuple(orders[axis].index(value) if axis in orders else value for axis, value in values)


# What changes no number: where data, embeddings and results lie, and on what they are computed (kept as provenance).
NOT_IN_RECORD = ("path", "comparisons", "pc", "use_cuda", "output", "name", "export")

# Comparisons that people made are noisy as they are: the flip rate is estimated, and more noise reverses comparisons.
HUMAN: Mapping[str, Any] = {
    "path": Path("../data/sample_hotel_reviews.csv"),
    "comparisons": Path("../data/sample_comparisons.csv"),
    "loss": "bradley-terry",
    "kl_weight": 1.0,
    "noise": "reversed",
    "flip_rate": ESTIMATED,
    "epochs_t": 30,
    "epochs_f": 30,
}
# The defaults of each protocol's two scripts, where they differ from those of Config.
PROTOCOLS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "multiclass": {
        "main.py": {},
        "config.py": {"epochs_t": 30, "epochs_f": 30},
    },
    "binary": {
        "main.py": {"lr_f": 1e-4, "batch_f": 64},
        "config.py": {"epochs_t": 30, "epochs_f": 30},
    },
    "human": {"main.py": HUMAN, "config.py": HUMAN},
}


def published_choices(protocol: str, departures: Sequence[str]) -> dict[str, str]:
    """`--as-published`: the fields of Config that repeat the published code's departures from its description."""
    choices = {
        "labels": ("validation_ratings", "misaligned"),
        "noise": ("noise", "redrawn-off-scale" if protocol == "binary" else "redrawn"),
        "order": ("list_order", "row"),
    }
    return dict(choices[departure] for departure in departures)


# What the fields of Config may be: one of several values, or a number from a least value on (an int: whole numbers).
CHOICES: Mapping[str, Sequence[Any]] = {
    "protocol": tuple(PROTOCOLS),
    "labels": LABELS,
    "pooling": POOLINGS,
    "head": HEADS,
    "noise": NOISES,
    "loss": LOSSES,
    "select": SELECT,
    "list_order": ("rating", "row"),
    "validation_ratings": ("own", "misaligned"),
    "shuffle": (False, True),
    "drop_empty": (False, True),
    "drop_duplicates": (False, True),
}
LEAST: Mapping[str, float] = {
    "seed": 0,
    "k": 1,
    "lists": 1,
    "lists_per_review": 1,
    "hidden": 1,
    "epochs_t": 0,
    "epochs_f": 0,
    "batch_t": 1,
    "batch_f": 1,
    "lr_t": 0.0,
    "lr_f": 0.0,
    "ratio": 0.0,
    "flip_rate": 0.0,
    "kl_weight": 0.0,
}
NO_NUMBERS: Mapping[str, Sequence[Any]] = {"lists": (None,), "flip_rate": (None, ESTIMATED)}  # what they may be instead
MAX_SEED = 2**32  # from there on, two seeds can give the same random numbers
MOST = {"seed": MAX_SEED, "ratio": 1.0 + 1e-12, "flip_rate": 1.0 + 1e-12}


@dataclass(frozen=True)
class Sweep:
    """Runs that differ in SWEEP_AXES alone; `config` is one of them, for what they share."""

    config: Config
    runs: Sequence[Config]  # sorted along the axes
    dask: str | None = None  # the address of a Dask scheduler, or "local"


def grid(config: Config, axes: Mapping[str, Sequence[Any]]) -> list[Config]:
    """Every combination of the axes' values, sorted: files do not depend on the order of the arguments.

    An axis that is not named keeps the value of `config`.
    """
    values = (set(axes.get(axis, [getattr(config, axis)])) for axis in SWEEP_AXES)
    runs = [replace(config, **dict(zip(SWEEP_AXES, chosen, strict=True))) for chosen in product(*values)]
    return sorted(runs, key=Config.sort_key)
