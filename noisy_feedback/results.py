"""What a run leaves on disk, written atomically."""

import csv
import hashlib
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from noisy_feedback import plots
from noisy_feedback.files import written_atomically
from noisy_feedback.metrics import Metrics
from noisy_feedback.regressor import Regressor, state_dict
from noisy_feedback.settings import Settings
from noisy_feedback.training import Epoch

NOT_KEPT = ("pc", "use_cuda", "output")  # where embeddings come from, and results go, changes no number
PACKAGES = ("noisy-feedback", "torch", "numpy", "pandas", "sentence-transformers", "safetensors")
MODEL_METADATA = "noisy_feedback"


@dataclass(frozen=True)
class Outcome:
    """Everything one run found out. `best` and `last` are None, and epoch 0, where nothing was fine-tuned."""

    settings: Settings
    data: dict[str, Any]  # name, rows, classes, labels, sha256
    encoder: dict[str, Any]
    device: str
    noise: dict[str, Any]  # requested, changed, of
    comparisons: dict[str, Any]  # count, k, reviews_used
    training: list[Epoch]
    fine_tuning: list[Epoch]
    best_epochs: dict[str, int]  # training, fine_tuning
    before: Metrics
    best: Metrics | None
    last: Metrics | None
    regressor: Regressor  # of the best fine-tuning epoch; a stack of one


def save(outcome: Outcome) -> Path:
    """Write run.json, curves.csv, curves.png and model.safetensors to the run's own folder, and return it.

    The folder is named after the settings and what they were applied to; run.json is written last.
    """
    folder = outcome.settings.output / folder_name(outcome)
    with written_atomically(folder / "curves.csv") as file, file.open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines, lineterminator="\n").writerows(curve_rows(outcome))
    with written_atomically(folder / "curves.png") as file:
        plots.draw_curves(outcome.training, outcome.fine_tuning, outcome.settings.ratio, file)
    with written_atomically(folder / "model.safetensors") as file:
        metadata = {"labels": outcome.data["labels"], "encoder": outcome.encoder}
        save_file(state_dict(outcome.regressor), file, metadata={MODEL_METADATA: json.dumps(metadata)})
    with written_atomically(folder / "run.json") as file:
        file.write_text(json.dumps(summary(outcome), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return folder


def summary(outcome: Outcome) -> dict[str, Any]:
    """The content of run.json: the same command on the same machine gives the same, to the last bit."""
    return {
        "study": outcome.settings.study,
        "arguments": arguments(outcome.settings),
        "data": outcome.data,
        "encoder": outcome.encoder,
        "device": outcome.device,
        "noise": outcome.noise,
        "comparisons": outcome.comparisons,
        "best_epochs": outcome.best_epochs,
        **{
            stage: metrics and without_nan(asdict(metrics))
            for stage, metrics in (("before", outcome.before), ("best", outcome.best), ("last", outcome.last))
        },
        "versions": {"python": ".".join(map(str, sys.version_info[:3])), **{name: version(name) for name in PACKAGES}},
    }


def arguments(settings: Settings) -> dict[str, Any]:
    """The settings that a result depends on, as JSON takes them."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(settings).items()
        if name not in (*NOT_KEPT, "study")
    }


def folder_name(outcome: Outcome) -> str:
    settings = outcome.settings
    applied_to = [
        {**arguments(settings), "path": None},
        outcome.data["sha256"],
        outcome.encoder["sha256"],
        outcome.device,
    ]
    digest = hashlib.sha256(json.dumps(applied_to, sort_keys=True).encode()).hexdigest()[:8]
    k = f"k{settings.k}_" if settings.gap is None else ""
    return f"{k}ratio{settings.ratio:g}_seed{settings.seed}_{digest}"


def curve_rows(outcome: Outcome) -> Iterator[tuple[Any, ...]]:
    yield ("phase", "epoch", "loss", "training_accuracy", "validation_accuracy", "validation_macro_f1")
    for phase, epochs in (("training", outcome.training), ("fine-tuning", outcome.fine_tuning)):
        for number, epoch in enumerate(epochs, start=1):
            yield (
                phase,
                number,
                epoch.loss,
                epoch.training_accuracy,
                epoch.validation_accuracy,
                epoch.validation_macro_f1,
            )


def without_nan(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: a metric that is not defined becomes null."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}
