"""Everything a user can set: each option is one field of Config, which makes its argument and its check.

Imports nothing heavy: `--help` and errors in arguments come at once.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

from noisy_feedback.errors import InputError
from noisy_feedback.options import COUNT, EPOCHS, POSITIVE, SEED, SHARE, WEIGHT, Option, option

# Keys of LOSS_FUNCTIONS in learning/losses.py.
LOSSES = (
    "study", "bradley-terry", "plackett-luce", "hinge", "label-smoothing", "robust", "symmetric-sigmoid", "dr-dpo",
    "holder-dpo", "re-po",
)  # fmt: skip
# Keys of RATING_NOISE in feedback/noise.py, and reversed lists; the last two are the published code's.
NOISES = ("uniform", "adjacent", "reversed", "least-confident", "redrawn", "redrawn-off-scale")
LABELS = ("all", "one", "majority", "gold", "flipped")  # judgements to learn from: feedback/human.py
ESTIMATED = "estimated"  # a flip rate: that of the audit
ADAPTIVE = "adaptive"  # a KL weight: it follows from the upper limit of the flip rate in the audit
DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
SEEDS = (84, 42, 21, 2, 1)  # of the study's sweep; main.py takes the first
RATIOS = (0.0, 0.2, 0.4, 0.6, 0.8)  # of the study's sweep

# The fields of Config that a sweep takes several values of; columns of its tables. The order is that of the runs.
# But for the seed, which comes first, only what changes feedback or fine-tuning: each seed is trained once.
SWEEP_AXES = ("seed", "labels", "loss", "kl_weight", "noise", "ratio")
SETTING_AXES = tuple(axis for axis in SWEEP_AXES if axis not in ("seed", "ratio"))

# Human comparisons are noisy as they are: the flip rate is estimated, and more noise reverses comparisons.
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
SWEEP: Mapping[str, Any] = {"seed": SEEDS, "ratio": RATIOS, "epochs_t": 30, "epochs_f": 30}
# The defaults of each protocol's two scripts, where they differ from those of Config; several values of an axis.
PROTOCOLS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "multiclass": {"main.py": {}, "config.py": SWEEP},
    "binary": {"main.py": {"lr_f": 1e-4, "batch_f": 64}, "config.py": SWEEP},
    "human": {"main.py": HUMAN, "config.py": {**HUMAN, "seed": SEEDS}},
}
SIMULATED = ("multiclass", "binary")  # comparisons, by noise in ratings
JUDGED = ("human",)


@dataclass(frozen=True)
class Config:
    """One run. The defaults are the study's, but for the encoder (the study: bert-base-uncased, pooling cls)."""

    # How comparisons are made.
    protocol: str = option(MISSING, values=tuple(PROTOCOLS))
    use_cuda: bool = option(False, "compute on the GPU if there is one", study=True, recorded=False)
    # --- data
    path: Path | None = option(Path("../data/"), "file of reviews, or folder that holds one", values=Path, study=True)
    comparisons: Path | None = option(None, "file of human comparisons", values=Path, study=True, protocols=JUDGED)
    texts: Path | None = option(None, "file of texts whose ids are compared", values=Path, protocols=JUDGED)
    split: str = option(
        "groups",
        "how comparisons without --path are split: keep dialogues, prompts, and texts that comparisons connect, in one "
        "part (groups), each text in one part (texts), or only the judgements of a pair together (comparisons)",
        values=("groups", "texts", "comparisons"),
        protocols=JUDGED,
    )
    chosen_column: str | None = option(None, "column of preferred texts", unset="chosen", protocols=JUDGED)
    rejected_column: str | None = option(None, "column of the other texts", unset="rejected", protocols=JUDGED)
    prompt_column: str | None = option(None, "column of prompts", unset="prompt", protocols=JUDGED)
    annotator_column: str | None = option(None, "column that says who judged", unset="annotator", protocols=JUDGED)
    drop_invalid: bool = option(
        False, "drop comparisons that cannot be used: ties, empty or equal texts, no annotator", protocols=JUDGED
    )
    text_column: str = option("Review", "column that holds the texts")
    rating_column: str = option("Rating", "column that holds the ratings")
    group_column: str | None = option(None, "column of groups: rows of a group stay in one part of the split")
    shuffle: bool = option(False, "permute rows, or groups, before the split (by the seed): for sorted files")
    drop_empty: bool = option(False, "drop rows without text")
    drop_unrated: bool = option(False, "drop rows without rating")
    drop_duplicates: bool = option(False, "keep only the first of reviews with the same text")
    # --- embeddings
    model_name: str = option(DEFAULT_ENCODER, "encoder: hub name or folder", study=True)
    pooling: str = option(
        "model", "pooling of token vectors: the encoder's own, [CLS], or mean", values=("model", "cls", "mean")
    )
    truncate: str | None = option(
        None,
        "side at which texts beyond the encoder's limit are cut: right keeps their beginning, left their end",
        values=("right", "left"),
        unset="right; for conversations, the side that keeps the texts of more comparisons different",
        recorded=False,
    )
    pc: bool = option(False, "read embeddings, stored or in embeddings.pt; never embed", study=True, recorded=False)
    embeddings: Path | None = option(None, "folder of stored embeddings", values=Path, unset="beside the data")
    # --- training
    seed: int = option(SEEDS[0], "seed of all random numbers", values=SEED)
    head: str = option(
        "categorical",
        "the model's output: a distribution over ratings, or one number (squared error in training)",
        values=("categorical", "scalar"),
    )
    hidden: tuple[int, ...] = option((64, 32), "widths of the rating model's hidden layers", values=COUNT)
    epochs_t: int = option(100, "training epochs", values=EPOCHS, study=True)
    lr_t: float = option(0.01, "training learning rate", values=POSITIVE)
    batch_t: int = option(64, "reviews per training batch", values=COUNT)
    select: str = option(
        "accuracy",
        "validation score that chooses the best epoch (in `human`, preference accuracy chooses that of fine-tuning)",
        values=("accuracy", "macro_f1", "kappa"),
    )
    validation_ratings: str = option("own", values=("own", "misaligned"))  # misaligned: the published code's
    # --- feedback
    labels: str = option(
        "all",
        "judgements to learn from: all, one of each pair at random, the majority, the true orders (gold), or these "
        "with as many reversed at random as one has wrong (flipped)",
        values=LABELS,
        study=True,
        protocols=JUDGED,
    )
    noise: str = option("uniform", "kind of noise", values=NOISES, protocols=SIMULATED)
    ratio: float = option(
        0.0,
        "share of fine-tuning ratings made noisy, or of comparisons reversed (`human`, --noise reversed)",
        values=SHARE,
        study=True,
    )
    k: int = option(
        1, "comparisons per list of k+1 reviews, best first", values=COUNT, study=True, protocols=("multiclass",)
    )
    lists: int | None = option(None, "at most N comparisons, drawn at random", values=COUNT, unset="all")
    lists_per_review: int = option(
        1, "draws of lists from all reviews: a review is in up to N lists", values=COUNT, protocols=SIMULATED
    )
    list_order: str = option("rating", values=("rating", "row"))  # row: the published code's
    # --- fine-tuning
    loss: str = option(
        "study", "preference loss (--head scalar: default bradley-terry); in a sweep also NAME:KL_WEIGHT", values=LOSSES
    )
    kl_weight: float | str = option(
        0.0,
        "weight of the KL divergence from the model before fine-tuning; 'adaptive': from the upper limit of the "
        "audit's flip rate",
        values=WEIGHT,
        also=(ADAPTIVE,),
    )
    flip_rate: float | str | None = option(
        None,
        "share of wrong comparisons that --loss label-smoothing and robust suppose; 'estimated': what the audit finds",
        values=SHARE,
        also=(ESTIMATED,),
        unset="what --noise and --ratio imply",
    )
    epochs_f: int = option(20, "fine-tuning epochs", values=EPOCHS, study=True)
    lr_f: float = option(1e-3, "fine-tuning learning rate", values=POSITIVE)
    batch_f: int = option(512, "comparisons per batch", values=COUNT)
    # --- results
    output: Path = option(Path("results/"), "folder for results, each in a folder of its own", values=Path)
    name: str | None = option(None, "name of the results folder", unset="made from the options", recorded=False)
    export: Path | None = option(
        None, "write the comparisons to this file (.jsonl, .parquet)", values=Path, script="main.py"
    )
    dask: str | None = option(
        None,
        "address of the Dask cluster that computes, or 'local' to start one",
        script="config.py",
        recorded=False,
        metavar="ADDRESS",
    )

    def __post_init__(self) -> None:
        """Errors: InputError where a value is not allowed, or options do not go together."""
        for name, declared in OPTIONS.items():
            value = getattr(self, name)
            if type(value) is int and getattr(declared.values, "kind", int) is float:
                value = float(value)  # 1 and 1.0 are one configuration
                object.__setattr__(self, name, value)
            for part in value if isinstance(value, tuple) else (value,):
                if problem := declared.problem(part):
                    raise InputError(f"--{name.replace('_', '-')}: {problem}")
        scalar, robust = self.head == "scalar", self.loss == "robust"
        if scalar and (self.loss == "study" or self.noise == "least-confident"):
            raise InputError("--head scalar: --loss study and --noise least-confident need a distribution; use others")
        if scalar and robust and not self.kl_weight:
            raise InputError("--head scalar: --loss robust falls without limit; give a --kl-weight above 0")
        if robust and isinstance(self.flip_rate, float) and self.flip_rate >= 0.5:
            raise InputError(f"--flip-rate {self.flip_rate}: --loss robust needs one below 0.5")
        if self.path is None and not (scalar and self.comparisons):
            raise InputError("comparisons alone (no --path) need --comparisons, and give a reward: --head scalar")
        if self.name is not None and (self.name in ("", "..") or Path(self.name).name != self.name):
            raise InputError(f"--name {self.name}: a name without slashes; --output chooses the folder around it")

    def sort_key(self) -> tuple[Any, ...]:
        """Runs of a sweep in the order of their axes, names in the order of their declaration."""
        key: list[Any] = []
        for axis in SWEEP_AXES:
            value, values = getattr(self, axis), OPTIONS[axis].values
            key.append(values.index(value) if isinstance(values, tuple) else (isinstance(value, str), value))
        return tuple(key)


OPTIONS: Mapping[str, Option] = {field.name: field.metadata["option"] for field in fields(Config)}
RECORDED = tuple(name for name, declared in OPTIONS.items() if declared.recorded)


def default_values(protocol: str, script: str) -> dict[str, Any]:
    """The default of every field; of an axis of a sweep a tuple where it has several."""
    return {**vars(Config(protocol)), **PROTOCOLS[protocol][script]}


def grid(options: Mapping[str, Any]) -> list[Config]:
    """The runs of a sweep: every combination of the values of SWEEP_AXES, each of which may have several in a list.

    NAME:WEIGHT is a loss with a KL weight of its own. The runs are sorted, and each is there once: files do not depend
    on the order of the arguments. Errors: InputError.
    """
    axes = {axis: options[axis] for axis in SWEEP_AXES if isinstance(options[axis], (list, tuple))}
    runs = set()
    for values in product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        loss, colon, weight = chosen.get("loss", "").partition(":")
        if colon:
            chosen |= {"loss": loss, "kl_weight": OPTIONS["kl_weight"].parse(weight)}
            if problem := OPTIONS["kl_weight"].problem(chosen["kl_weight"]):
                raise InputError(f"--loss {loss}:{weight}: {problem}")
        runs.add(Config(**{**options, **chosen}))
    return sorted(runs, key=Config.sort_key)
