"""What runs and sweeps leave on disk: written atomically, found again on the next start."""

import csv
import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from noisy_feedback import plots
from noisy_feedback.files import written_atomically
from noisy_feedback.metrics import METRICS, Metrics
from noisy_feedback.regressor import Regressor, state_dict
from noisy_feedback.settings import COMBINATION, Settings, Sweep
from noisy_feedback.tensors import METADATA, write_tensors
from noisy_feedback.training import Epoch

NOT_KEPT = ("pc", "use_cuda", "output")  # where embeddings come from, and results go, changes no number
PACKAGES = ("noisy-feedback", "torch", "numpy", "pandas", "scipy", "sentence-transformers", "safetensors")
CODE = ("as_published", "comparisons", "experiment", "losses", "metrics", "noise", "regressor", "training")
SWEPT = {"seed": "seed", **COMBINATION, "ratio": "ratio"}  # columns of tables, and the settings that they show
EPOCH_COLUMNS = ("loss", "training_accuracy", "validation_accuracy", "validation_macro_f1")


@dataclass(frozen=True)
class Outcome:
    """Everything one run found out. `best` and `last` are None, and epoch 0, where nothing was fine-tuned."""

    settings: Settings
    noise: dict[str, Any]  # requested, changed, of
    comparisons: dict[str, Any]  # count, k, reviews_used
    best_epochs: dict[str, int]  # training, fine_tuning
    training: list[Epoch]
    fine_tuning: list[Epoch]
    before: Metrics
    best: Metrics | None
    last: Metrics | None

    def stages(self) -> dict[str, Metrics | None]:
        return {"before": self.before, "best": self.best, "last": self.last}


def save_run(outcome: Outcome, regressor: Regressor, origin: dict[str, Any]) -> Path:
    """Write run.json, curves.csv, curves.png and model.safetensors to the run's own folder, and return it.

    The folder is named after the settings and what they were applied to; run.json is written last.
    """
    settings = outcome.settings
    digest = short_digest(arguments(settings), origin)
    folder = settings.output / f"{k_of(settings)}{settings.loss}_ratio{settings.ratio:g}_seed{settings.seed}_{digest}"
    epochs = [("training", outcome.training), ("fine-tuning", outcome.fine_tuning)]
    write_csv(folder / "curves.csv", ("phase", "epoch", *EPOCH_COLUMNS), curve_rows((), epochs))
    with written_atomically(folder / "curves.png") as file:
        plots.draw_run(outcome.training, outcome.fine_tuning, settings.ratio, file)
    metadata = {"labels": origin["data"]["labels"], "encoder": origin["encoder"]}
    write_tensors(folder / "model.safetensors", state_dict(regressor), {METADATA: json.dumps(metadata)})
    write_json(folder / "run.json", run_json(outcome, origin))
    return folder


def run_json(outcome: Outcome, origin: dict[str, Any]) -> dict[str, Any]:
    """The content of run.json: the same command on the same machine gives the same, to the last bit."""
    return {
        "study": outcome.settings.study,
        "arguments": arguments(outcome.settings),
        **origin,
        "noise": outcome.noise,
        "comparisons": outcome.comparisons,
        "best_epochs": outcome.best_epochs,
        **{stage: metrics and without_nan(asdict(metrics)) for stage, metrics in outcome.stages().items()},
        "versions": versions(),
    }


class SweepFolder:
    """The folder of a sweep, named after everything that it does not sweep over, so that more of that extends it.

    `runs`/ keeps every finished run by itself; the tables are made from them and from nothing else.
    """

    def __init__(self, sweep: Sweep, origin: dict[str, Any]) -> None:
        self.sweep = sweep
        self.origin = origin
        self.shared = {name: value for name, value in arguments(sweep.run).items() if name not in SWEPT.values()}
        digest = short_digest(self.shared, origin, versions())
        run = sweep.run
        self.path = run.output / f"sweep_{k_of(run)}t{run.epochs_t}_f{run.epochs_f}_{digest}"

    def file_of(self, run: Settings) -> Path:
        name = f"seed{run.seed}_{run.loss}_anchor{exact(run.anchor)}_{run.noise}_ratio{exact(run.ratio)}.json"
        return self.path / "runs" / name

    def keep(self, outcome: Outcome) -> None:
        """Keep one finished run."""
        content = {name: value for name, value in asdict(outcome).items() if name != "settings"}
        with written_atomically(self.file_of(outcome.settings)) as file:
            file.write_text(json.dumps(content), encoding="utf-8")

    def find(self, run: Settings) -> Outcome | None:
        """A run that was kept; None where there is none, or what is there is damaged."""
        try:
            content = json.loads(self.file_of(run).read_text(encoding="utf-8"))
            for phase in ("training", "fine_tuning"):
                content[phase] = [Epoch(**epoch) for epoch in content[phase]]
            for stage in ("before", "best", "last"):
                content[stage] = content[stage] and Metrics(**content[stage])
            return Outcome(settings=run, **content)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write_tables(self, outcomes: Sequence[Outcome], summary: pd.DataFrame) -> list[Path]:
        """runs.csv, curves.csv, summary.csv and the figures, from all runs of the sweep; settings.json last.

        Gives the figures' paths; of each there is a .pdf too.
        """
        settings = {
            "study": self.sweep.run.study,
            "arguments": self.shared,
            **{name: sorted({getattr(run, name) for run in self.sweep.runs()}) for name in SWEPT.values()},
            **self.origin,
            "versions": versions(),
        }
        curves = list(sweep_curve_rows(outcomes))
        columns = (*SWEPT, "phase", "epoch", *EPOCH_COLUMNS)
        write_csv(self.path / "curves.csv", columns, iter(curves))
        runs = runs_table(outcomes)
        for name, table in (("runs.csv", runs), ("summary.csv", summary)):
            with written_atomically(self.path / name) as file:
                table.to_csv(file, index=False, lineterminator="\n")
        table = pd.DataFrame(curves, columns=list(columns))
        drawings: dict[str, Callable[[Path], None]] = {}
        if curves:
            drawings["curves"] = partial(plots.draw_curves, table)
        if self.sweep.run.epochs_f:
            drawings["metrics"] = partial(plots.draw_metrics, runs, summary)
        if self.sweep.run.epochs_f and len(plots.combinations(runs)) > 1:
            drawings["change"] = partial(plots.draw_change, summary)
        for name in {"curves", "metrics", "change"} - set(drawings):
            for suffix in (".png", ".pdf"):  # of a larger sweep before
                (self.path / f"{name}{suffix}").unlink(missing_ok=True)
        for name, draw in drawings.items():
            for suffix in (".png", ".pdf"):
                with written_atomically(self.path / f"{name}{suffix}") as file:
                    draw(file)
        write_json(self.path / "settings.json", settings)
        return [self.path / f"{name}.png" for name in drawings]


def runs_table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row per seed and ratio: every test metric before, best and last; best epochs; noise and comparisons."""
    rows = []
    for outcome in outcomes:
        row: dict[str, Any] = {
            **{column: getattr(outcome.settings, name) for column, name in SWEPT.items()},
            "best_training_epoch": outcome.best_epochs["training"],
            "best_fine_tuning_epoch": outcome.best_epochs["fine_tuning"],
            "ratings_changed": outcome.noise["changed"],
            "ratings": outcome.noise["of"],
            "comparisons": outcome.comparisons["count"],
            "reviews_used": outcome.comparisons["reviews_used"],
        }
        for stage, metrics in outcome.stages().items():
            row |= {f"{stage}_{name}": getattr(metrics, name) if metrics else math.nan for name in METRICS}
        rows.append(row)
    return pd.DataFrame(rows)


def sweep_curve_rows(outcomes: Sequence[Outcome]) -> Iterator[tuple[Any, ...]]:
    """Curves of all runs; training, which knows neither noise nor loss, once per seed and with empty cells for them."""
    seen = set()
    for outcome in outcomes:
        seed = outcome.settings.seed
        if seed not in seen:
            yield from curve_rows((seed, *[None] * (len(SWEPT) - 1)), [("training", outcome.training)])
        seen.add(seed)
        swept = tuple(getattr(outcome.settings, name) for name in SWEPT.values())
        yield from curve_rows(swept, [("fine-tuning", outcome.fine_tuning)])


def curve_rows(start: tuple[Any, ...], phases: Sequence[tuple[str, Sequence[Epoch]]]) -> Iterator[tuple[Any, ...]]:
    for phase, epochs in phases:
        for number, epoch in enumerate(epochs, start=1):
            yield (*start, phase, number, *astuple(epoch))


def arguments(settings: Settings) -> dict[str, Any]:
    """The settings that a result depends on, as JSON takes them."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(settings).items()
        if name not in (*NOT_KEPT, "study")
    }


def exact(value: float) -> str:
    """All digits of a number, for the name of a file: 0, 0.2, 0.3333333."""
    return repr(float(value)).removesuffix(".0")


def k_of(settings: Settings) -> str:
    return f"k{settings.k}_" if settings.gap is None else ""


def short_digest(arguments: dict[str, Any], *more: dict[str, Any]) -> str:
    """Eight hexadecimal digits that stand for settings and what they were applied to, wherever its file lies."""
    content = json.dumps([{**arguments, "path": None}, *more], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def versions() -> dict[str, str]:
    """Of Python, the packages, and by digest the code that makes the numbers, which users change."""
    code = [Path(__file__).with_name(f"{room}.py").read_text(encoding="utf-8") for room in CODE]
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        **{name: version(name) for name in PACKAGES},
        "code": hashlib.sha256("".join(code).encode()).hexdigest()[:12],
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    with written_atomically(path) as file:
        file.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: Path, columns: Sequence[str], rows: Iterator[tuple[Any, ...]]) -> None:
    with written_atomically(path) as file, file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def without_nan(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: a metric that is not defined becomes null."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}
