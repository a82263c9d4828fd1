"""What runs and sweeps write to disk, and how it is found again."""

import hashlib
import json
import math
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from noisy_feedback.code_version import CODE_VERSION
from noisy_feedback.config import RECORDED, SWEEP_AXES, Config
from noisy_feedback.data.dataset import Dataset, Provenance
from noisy_feedback.errors import InputError
from noisy_feedback.evaluation.results import RunResult
from noisy_feedback.feedback.audit import Audit
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.files import atomic_write, write_tensors
from noisy_feedback.learning.model import RatingMLP, predict, state_dict
from noisy_feedback.learning.training import EpochStats
from noisy_feedback.metrics import STAGES, Metrics, expected_class
from noisy_feedback.output.feedback_tables import annotator_table, feedback_table

PACKAGES = ("noisy-feedback", "torch", "numpy", "pandas", "scipy", "sentence-transformers", "safetensors")
CURVE_COLUMNS = ("phase", "epoch", *(field.name for field in fields(EpochStats)))
RECORDS = "[!.]*.json"  # files that are complete
LONGEST_NAME = 120  # characters of a folder's name
# What a folder's name says of the options that change a result most, where they differ from the default.
NAMED = {"loss": "", "labels": "", "kl_weight": "kl", "noise": "", "head": "", "epochs_t": "t", "epochs_f": "f"}
NAMED |= {"ratio": "ratio", "seed": "seed"}
ALWAYS_NAMED = ("loss", "ratio", "seed")  # of a run


class ResultsFolder:
    """The folder of a run, or of a sweep, whose `options` are all but those that are `swept`.

    `identity`: eight hexadecimal digits over everything that a number depends on: options, data, device, versions and
    code. `path` ends in --name, or in the data, the protocol, the options that NAMED lists and the identity. Errors:
    InputError where another result has this --name.
    """

    def __init__(self, config: Config, provenance: Provenance, swept: Sequence[str] = ()) -> None:
        self.config, self.provenance, self.versions = config, provenance, versions()
        values = {name: getattr(config, name) for name in RECORDED if name not in swept}
        self.options = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        content = json.dumps([self.options, asdict(provenance), self.versions], sort_keys=True)
        self.identity = hashlib.sha256(content.encode()).hexdigest()[:8]
        self.path = config.output / (config.name or self.descriptive_name())
        if config.name is not None:
            self.refuse_another_result()

    def descriptive_name(self) -> str:
        defaults = {field.name: field.default for field in fields(Config) if field.name not in ALWAYS_NAMED}
        named = [name for name in NAMED if name in self.options and self.options[name] != defaults.get(name)]
        k = [f"k{self.config.k}"] if self.config.protocol == "multiclass" else []
        parts = [self.provenance.data.name.partition(".")[0], self.config.protocol, *k]
        parts += [f"{NAMED[name]}{as_text(self.options[name])}" for name in named]
        return f"{'_'.join(parts)[:LONGEST_NAME]}_{self.identity}"

    def refuse_another_result(self) -> None:
        """Errors: InputError where the folder holds another result, with what differs of options, versions and code."""
        here = {**self.options, **self.versions}
        results = (self.path / "run.json", self.path / "sweep.json", *self.path.glob(f"runs/{RECORDS}"))
        for file in filter(Path.is_file, results):
            record = read_record(file)
            damaged_run = not record and file.parent != self.path  # is computed again, as in any sweep
            if record.get("identity") != self.identity and not damaged_run:
                recorded = {**record.get("config", {}), **record.get("versions", {})}
                names = [name for name, value in recorded.items() if here.get(name, value) != value]
                differs = ", ".join(f"{name} {recorded[name]!r} (here {here[name]!r})" for name in names)
                what = f"with {differs}" if differs else "of other options, data or code"
                raise InputError(f"--name {self.config.name}: {self.path} holds a result {what}; choose another name")

    def record(self, found: Mapping[str, Any]) -> str:
        """The content of run.json or sweep.json: the same command on the same machine gives the same, bit for bit."""
        places = {
            "path": self.config.path,
            "comparisons_path": self.config.comparisons,
            "texts_path": self.config.texts,
        }
        record = {
            "identity": self.identity,
            **{name: None if path is None else str(path) for name, path in places.items()},  # as they were given
            "config": self.options,
            **asdict(self.provenance),
            **found,
            "versions": self.versions,
        }
        return json.dumps(without_nan(record), indent=2, allow_nan=False) + "\n"


class SweepFolder(ResultsFolder):
    """The folder of a sweep, which more seeds or ratios extend.

    `runs`/ keeps every finished run in a file of its own; the tables are made from all of these and nothing else.
    """

    def __init__(self, config: Config, provenance: Provenance) -> None:
        """`config` is that of one of the runs, for what they share."""
        super().__init__(config, provenance, SWEEP_AXES)

    def file_of(self, run: Config) -> Path:
        values = (f"{axis.replace('_', '-')}-{as_text(value)}" for axis, value in axes_of(run).items())
        return self.path / "runs" / f"{'_'.join(values)}.json"

    def save(self, result: RunResult) -> None:
        """Keep one finished run, with the options and versions that the refusal of a `--name` compares."""
        made_from = {"identity": self.identity, "config": self.options, "versions": self.versions}
        content = {**asdict(result), **made_from, "axes": axes_of(result.config)}
        write_text(self.file_of(result.config), json.dumps(content))

    def load(self) -> dict[Config, RunResult]:
        """Every run that was kept; what was made otherwise, or is damaged, is left out."""
        found = {}
        for file in self.path.glob(f"runs/{RECORDS}"):
            record = read_record(file)
            if record.get("identity") == self.identity:
                with suppress(ValueError, TypeError, KeyError):
                    values = {field.name: record[field.name] for field in fields(RunResult)}
                    for phase in ("training", "fine_tuning"):
                        values[phase] = [EpochStats(**epoch) for epoch in values[phase]]
                    for stage in ("majority", *STAGES):
                        values[stage] = values[stage] and Metrics(**values[stage])
                    values["config"] = config = replace(self.config, **record["axes"])
                    found[config] = RunResult(**values)
        return found


def save_run(
    result: RunResult,
    models: Mapping[str, RatingMLP],
    dataset: Dataset,
    feedback: Feedback | None = None,
    audit: Audit | None = None,
) -> Path:
    """Write everything about a run to its own folder; returns it.

    run.json is removed first and written last: a folder that holds it is complete, and of one run.
    """
    results = ResultsFolder(result.config, dataset.provenance)
    folder = results.path
    for name in ("run.json", "feedback.csv", "annotators.csv", "curves.png"):  # of an earlier run of the same name
        (folder / name).unlink(missing_ok=True)
    write_table(folder / "curves.csv", curves_table([result])[list(CURVE_COLUMNS)])
    metadata = {"scale": dataset.provenance.data.scale, "encoder": asdict(dataset.provenance.encoder)}
    for stage, model in models.items():
        write_tensors(folder / f"model_{stage}.safetensors", state_dict(model), json.dumps(metadata))
    if feedback is not None and audit is not None:
        before, after = (
            expected_class(predict(models[stage], dataset.embeddings).cpu().numpy()) for stage in ("before", "last")
        )
        names = dataset.judgements.annotator_names if dataset.judgements else []
        write_table(folder / "feedback.csv", feedback_table(feedback, audit, before, after, names))
        if (annotators := annotator_table(feedback, audit, names)) is not None:
            write_table(folder / "annotators.csv", annotators)
    if result.training or result.fine_tuning:
        from noisy_feedback.output import plots  # imports matplotlib: only when there is something to draw

        with atomic_write(folder / "curves.png") as file:
            plots.save_figure(plots.draw_run(result), file)
    in_curves = ("config", "training", "fine_tuning")
    found = {name: value for name, value in asdict(result).items() if name not in in_curves}
    write_text(folder / "run.json", results.record(found))
    return folder


def curves_table(results: Sequence[RunResult]) -> pd.DataFrame:
    """Curves of runs; training, which depends on the seed alone, once per seed, with empty cells for the other axes."""
    rows: list[dict[str, Any]] = []
    for result in results:
        axes = axes_of(result.config)
        training, tuning = {"seed": axes["seed"], "phase": "training"}, {**axes, "phase": "fine-tuning"}
        for known, epochs in ((training, result.training), (tuning, result.fine_tuning)):
            rows += [{**known, "epoch": number, **vars(epoch)} for number, epoch in enumerate(epochs, start=1)]
    table = pd.DataFrame(rows, columns=[*SWEEP_AXES, *CURVE_COLUMNS])
    return table.drop_duplicates([*SWEEP_AXES, "phase", "epoch"])


def write_table(file: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, with all digits; what is not defined becomes an empty cell."""
    with atomic_write(file) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def write_text(file: Path, text: str) -> None:
    with atomic_write(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_record(file: Path) -> dict[str, Any]:
    """The content of a file of JSON; empty where it is damaged."""
    with suppress(OSError, ValueError):
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def axes_of(run: Config) -> dict[str, Any]:
    return {axis: getattr(run, axis) for axis in SWEEP_AXES}


def as_text(value: Any) -> str:
    """All digits of a number, for a file name: 0, 0.2, 0.3333333; a text as it is."""
    return str(value).removesuffix(".0")


def versions() -> dict[str, str]:
    """Of Python, of the packages, and of the code that makes the numbers."""
    packages = {name: version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **packages, "code": CODE_VERSION}


def without_nan(value: Any) -> Any:
    """JSON has no NaN: what is not defined becomes null."""
    if isinstance(value, dict):
        return {name: without_nan(part) for name, part in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
