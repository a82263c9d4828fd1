"""Everything a user can set: each option is one field of Config, which makes its argument and its check.

Imports nothing heavy: `--help` and errors in arguments come at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any

from noisy_feedback.options import COUNT, EPOCHS, POSITIVE, SHARE, Numbers, Option, option

# Keys of LOSS_FUNCTIONS in learning/losses.py.
LOSSES = (
    "study", "bradley-terry", "plackett-luce", "hinge", "label-smoothing", "robust", "symmetric-sigmoid", "dr-dpo",
    "holder-dpo", "re-po",
)  # fmt: skip
# Keys of RATING_NOISE in feedback/noise.py, and reversed lists; the last two are the published code's.
NOISES = ("uniform", "adjacent", "reversed", "least-confident", "redrawn", "redrawn-off-scale")
LABELS = ("all", "one", "majority", "gold", "flipped")  # judgements to learn from: feedback/human.py
ESTIMATED = "estimated"  # a flip rate: that of the audit
ADAPTIVE = "adaptive"  # a KL weight: it follows from the flip rate of the audit
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
# The defaults of each protocol's two scripts, where they differ from those of Config.
PROTOCOLS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "multiclass": {"main.py": {}, "config.py": {"epochs_t": 30, "epochs_f": 30}},
    "binary": {"main.py": {"lr_f": 1e-4, "batch_f": 64}, "config.py": {"epochs_t": 30, "epochs_f": 30}},
    "human": {"main.py": HUMAN, "config.py": HUMAN},
}
SIMULATED = ("multiclass", "binary")  # comparisons, by noise in ratings
JUDGED = ("human",)


@dataclass(frozen=True)
class Config:
    """One run. The defaults are the study's, but for the encoder (the study: bert-base-uncased, pooling cls)."""

    # How comparisons are made.
    protocol: str = field(metadata={"option": Option(values=tuple(PROTOCOLS))})
    use_cuda: bool = option(False, "compute on the GPU if there is one", study=True, recorded=False)
    # --- data
    path: Path | None = option(Path("../data/"), "file of reviews, or folder that holds one", values=Path, study=True)
    comparisons: Path | None = option(None, "file of human comparisons", values=Path, study=True, protocols=JUDGED)
    texts: Path | None = option(None, "file of texts whose ids are compared", values=Path, protocols=JUDGED)
    split: str = option(
        "groups",
        "of comparisons alone (no --path): keep dialogues, prompts, and texts that comparisons connect, in one part "
        "(groups), no text in two parts (texts), or only the judgements of a pair together (comparisons)",
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
        also=(None,),
        unset="right; of conversations, what keeps more comparisons apart",
        recorded=False,
    )
    pc: bool = option(False, "read embeddings, stored or in embeddings.pt; never embed", study=True, recorded=False)
    embeddings: Path | None = option(None, "folder of stored embeddings", values=Path, unset="beside the data")
    # --- training
    # Beyond 32 bits, two seeds can give the same random numbers.
    seed: int = option(SEEDS[0], "seed of all random numbers", values=Numbers(int, 0, 2**32 - 1))
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
        "validation score that chooses the best epoch (of fine-tuning in `human`, the preference accuracy does)",
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
    lists: int | None = option(None, "at most N comparisons, drawn at random", values=COUNT, also=(None,), unset="all")
    lists_per_review: int = option(
        1, "draws of lists from all reviews: a review is in up to N lists", values=COUNT, protocols=SIMULATED
    )
    list_order: str = option("rating", values=("rating", "row"))  # row: the published code's
    # --- fine-tuning
    loss: str = option("study", "preference loss (of a scalar head bradley-terry, where none is named)", values=LOSSES)
    kl_weight: float | str = option(
        0.0,
        "weight of the KL divergence from the model before fine-tuning; 'adaptive': computed from "
        "the audit's upper limit of the flip rate. --loss robust of --head scalar needs one",
        values=Numbers(float, 0, metavar="WEIGHT"),
        also=(ADAPTIVE,),
    )
    flip_rate: float | str | None = option(
        None,
        "share of wrong comparisons that --loss label-smoothing and robust suppose; 'estimated': what the audit finds",
        values=SHARE,
        also=(None, ESTIMATED),
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

    def __post_init__(self) -> None:
        """Refuse values that no option could have given, and those that do not go together. Errors: ValueError."""
        for name, declared in OPTIONS.items():
            value = getattr(self, name)
            if isinstance(declared.values, Numbers) and declared.values.kind is float and type(value) is int:
                object.__setattr__(self, name, float(value))  # 1 and 1.0 are one configuration
            for part in value if isinstance(value, tuple) else (value,):
                if problem := declared.problem(part):
                    raise ValueError(f"{name}: {problem}")
        if problem := combination_problem(self):
            raise ValueError(problem)

    def sort_key(self) -> tuple[Any, ...]:
        """Runs of a sweep in the order of their axes, names in the order of their declaration."""
        key: list[Any] = []
        for axis in SWEEP_AXES:
            value, values = getattr(self, axis), OPTIONS[axis].values
            key.append(values.index(value) if isinstance(values, tuple) else (isinstance(value, str), value))
        return tuple(key)


OPTIONS: Mapping[str, Option] = {field.name: field.metadata["option"] for field in fields(Config)}
RECORDED = tuple(name for name, declared in OPTIONS.items() if declared.recorded)


def combination_problem(config: Config) -> str:
    """Why options do not go together; empty where they do."""
    needs_distribution = {
        f"--loss {config.loss}": config.loss == "study",
        f"--noise {config.noise}": config.noise == "least-confident",
    }
    for flag, given in needs_distribution.items():
        if given and config.head == "scalar":
            return f"{flag} needs a distribution over ratings; give another one, or --head categorical"
    if config.path is None and (config.comparisons is None or config.head != "scalar"):
        return "comparisons alone (no --path) need --comparisons, and give a reward: --head scalar"
    if config.head == "scalar" and config.loss == "robust" and not config.kl_weight:
        falls = "--head scalar --loss robust: this loss falls without limit as the outputs grow"
        return f"{falls}; give a --kl-weight above 0, or another loss"
    if config.loss == "robust" and isinstance(config.flip_rate, float) and config.flip_rate >= 0.5:
        return f"--flip-rate {config.flip_rate:g}: --loss robust needs one below 0.5"
    if config.name is not None and (Path(config.name).name != config.name or config.name in ("", "..")):
        return f"--name {config.name}: a name without slashes; --output chooses the folder around it"
    return ""


def grid(options: Mapping[str, Any]) -> list[Config]:
    """The runs of a sweep: every combination of the values of SWEEP_AXES, each of which may have several in a list.

    A loss may have a KL weight of its own, (loss, weight). The runs are sorted, and each is there once: files do not
    depend on the order of the arguments. Errors: ValueError.
    """
    axes = {axis: options[axis] for axis in SWEEP_AXES if isinstance(options.get(axis), (list, tuple))}
    runs = set()
    for values in product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        if isinstance(chosen.get("loss"), tuple):
            chosen["loss"], chosen["kl_weight"] = chosen["loss"]
        runs.add(Config(**{**options, **chosen}))
    return sorted(runs, key=Config.sort_key)
