"""What runs and sweeps write to disk, and how it is found again."""

import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from noisy_feedback.code_version import CODE_VERSION
from noisy_feedback.config import RECORDED, SWEEP_AXES, Config
from noisy_feedback.data.dataset import Dataset, Provenance
from noisy_feedback.errors import InputError
from noisy_feedback.evaluation.results import STAGES, RunResult
from noisy_feedback.feedback.audit import Audit
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.files import atomic_write, write_tensors
from noisy_feedback.learning.model import RatingMLP, predict, state_dict
from noisy_feedback.learning.training import EpochStats
from noisy_feedback.metrics import Metrics, expected_class
from noisy_feedback.output.comparisons import annotator_table, export_comparisons, feedback_table

PACKAGES = ("noisy-feedback", "torch", "numpy", "pandas", "scipy", "sentence-transformers", "safetensors")
CURVE_COLUMNS = ("phase", "epoch", *(field.name for field in fields(EpochStats)))
LONGEST_NAME = 120  # characters of a folder's name
# What a folder's name says of the options that change a result most, where they differ from the default.
NAMED = {"labels": "", "kl_weight": "kl", "noise": "", "head": "", "epochs_t": "t", "epochs_f": "f"}


def save_run(
    result: RunResult,
    models: Mapping[str, RatingMLP],
    dataset: Dataset,
    feedback: Feedback | None = None,
    audit: Audit | None = None,
    exported: tuple[Feedback, Audit] | None = None,
) -> Path:
    """Write everything about a run to its own folder, and comparisons (those `exported`) to `--export`; returns it.

    run.json is removed first and written last: a folder that holds it is complete, and of one run.
    """
    config, provenance = result.config, dataset.provenance
    folder = run_folder(config, provenance)
    for name in ("run.json", "feedback.csv", "annotators.csv", "curves.png"):  # of an earlier run of the same name
        (folder / name).unlink(missing_ok=True)
    rows = curve_rows({}, "training", result.training) + curve_rows({}, "fine-tuning", result.fine_tuning)
    write_table(folder / "curves.csv", pd.DataFrame(rows, columns=CURVE_COLUMNS))
    metadata = {"scale": provenance.data.scale, "encoder": asdict(provenance.encoder)}
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
        if config.export is not None:
            export_comparisons(config.export, *(exported or (feedback, audit)), dataset, cross_fitted=bool(exported))
    if result.training or result.fine_tuning:
        from noisy_feedback.output import plots  # imports matplotlib: only when there is something to draw

        with atomic_write(folder / "curves.png") as file:
            plots.save_figure(plots.draw_run(result), file)
    found = {name: getattr(result, name) for name in ("noise", "comparisons", "audit", "best_epochs", "kl_weight_used")}
    for stage, metrics in {"majority": result.majority, **result.stages()}.items():
        found[stage] = metrics and without_nan(asdict(metrics))
    write_text(folder / "run.json", record_text(config, config_record(config), provenance, found))
    return folder


def record_text(config: Config, options: Mapping[str, Any], provenance: Provenance, found: Mapping[str, Any]) -> str:
    """The content of run.json or sweep.json: the same command on the same machine gives the same, to the last bit."""
    record = {
        "identity": identity(options, provenance),
        "path": None if config.path is None else str(config.path),  # where the data were, as they were given
        "comparisons_path": None if config.comparisons is None else str(config.comparisons),
        "texts_path": None if config.texts is None else str(config.texts),
        "config": options,
        **asdict(provenance),
        **found,
        "versions": versions(),
    }
    return json.dumps(record, indent=2, allow_nan=False) + "\n"


def write_text(file: Path, text: str) -> None:
    with atomic_write(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


class SweepFolder:
    """The folder of a sweep, named after everything that it does not sweep over, so more seeds or ratios extend it.

    `runs`/ keeps every finished run in a file of its own; the tables are made from all of these and nothing else.
    """

    def __init__(self, config: Config, provenance: Provenance) -> None:
        """`config` is that of one of the runs, for what they share."""
        self.provenance = provenance
        self.config = config
        self.shared = {name: value for name, value in config_record(config).items() if name not in SWEEP_AXES}
        self.identity = identity(self.shared, provenance)
        self.path = folder_of(config, name_parts(config, self.shared, provenance), self.shared, self.identity)

    def file_of(self, run: Config) -> Path:
        values = (f"{axis.replace('_', '-')}-{format_number(getattr(run, axis))}" for axis in SWEEP_AXES)
        return self.path / "runs" / f"{'_'.join(values)}.json"

    def save(self, result: RunResult) -> None:
        """Keep one finished run, with the options and versions that the refusal of a `--name` compares."""
        made_from = {"identity": self.identity, "config": self.shared, "versions": versions()}
        content = {**asdict(result), **made_from, "axes": axes_of(result.config)}
        write_text(self.file_of(result.config), json.dumps(content))

    def has(self, run: Config) -> bool:
        return self.read(self.file_of(run)) is not None

    def load_all(self) -> list[RunResult]:
        """Every run that was kept, sorted along the axes; what is damaged is left out."""
        found = [self.read(file) for file in sorted((self.path / "runs").glob("[!.]*.json"))]
        results = {result.config: result for result in found if result is not None}
        return [results[config] for config in sorted(results, key=Config.sort_key)]

    def read(self, file: Path) -> RunResult | None:
        """One kept run; None where there is none, it was made otherwise, or the file is damaged."""
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content.pop("identity") != self.identity:
                return None
            content["config"] = replace(self.config, **content.pop("axes"))
            for phase in ("training", "fine_tuning"):
                content[phase] = [EpochStats(**epoch) for epoch in content[phase]]
            for stage in ("majority", *STAGES):
                content[stage] = content[stage] and Metrics(**content[stage])
            del content["versions"]
            return RunResult(**content)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def record(self, results: Sequence[RunResult]) -> str:
        """The content of sweep.json: what the tables were made from and which runs they hold."""
        runs = [axes_of(result.config) for result in results]
        return record_text(self.config, self.shared, self.provenance, {"runs": runs})

    def is_recorded(self, results: Sequence[RunResult]) -> bool:
        """Whether tables and figures of exactly these runs have been written."""
        file = self.path / "sweep.json"
        return file.is_file() and file.read_bytes() == self.record(results).encode()

    def write_record(self, results: Sequence[RunResult]) -> None:
        write_text(self.path / "sweep.json", self.record(results))


def curve_rows(axes: Mapping[str, Any], phase: str, epochs: Sequence[EpochStats]) -> list[dict[str, Any]]:
    """The curves of a phase of a run: one row per epoch."""
    return [{**axes, "phase": phase, "epoch": number, **vars(epoch)} for number, epoch in enumerate(epochs, start=1)]


def write_table(file: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, with all digits; what is not defined becomes an empty cell."""
    with atomic_write(file) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def axes_of(run: Config) -> dict[str, Any]:
    return {axis: getattr(run, axis) for axis in SWEEP_AXES}


def config_record(config: Config) -> dict[str, Any]:
    """The configuration as JSON takes it, without what changes no number."""
    values = ((name, getattr(config, name)) for name in RECORDED)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values}


def run_folder(config: Config, provenance: Provenance) -> Path:
    """The folder of a single run, named after what it is made from and the options that differ from their defaults."""
    record = config_record(config)
    parts = name_parts(config, record, provenance, config.loss)
    parts += [f"ratio{format_number(config.ratio)}", f"seed{config.seed}"]
    return folder_of(config, parts, record, identity(record, provenance))


def name_parts(config: Config, record: Mapping[str, Any], provenance: Provenance, *more: str) -> list[str]:
    """The data, the protocol and the options that are not the default."""
    defaults = {field.name: field.default for field in fields(Config)}
    k = [f"k{config.k}"] if config.protocol == "multiclass" else []
    changed = [name for name in NAMED if name in record and record[name] != defaults[name]]
    options = [f"{NAMED[name]}{format_number(record[name])}" for name in changed]
    return [provenance.data.name.partition(".")[0], config.protocol, *k, *more, *options]


def folder_of(config: Config, parts: Sequence[str], options: Mapping[str, Any], identity: str) -> Path:
    """`--name`, or the parts and the identity.

    Errors: InputError where another result has this --name, with what differs of options, versions and code.
    """
    if config.name is None:
        return config.output / f"{'_'.join(parts)[:LONGEST_NAME]}_{identity}"
    folder, own = config.output / config.name, {**options, **versions()}
    for file in (folder / "run.json", folder / "sweep.json", *(folder / "runs").glob("[!.]*.json")):
        differs = []
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            other = record["identity"] != identity
            recorded = {**record.get("config", {}), **record.get("versions", {})}
            names = [name for name, value in recorded.items() if own.get(name, value) != value]
            differs = [f"{name} {recorded[name]!r} (here {own[name]!r})" for name in names]
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError):
            other = file.parent == folder  # a damaged kept run is computed again, as in any sweep
        if other:
            what = f"with {', '.join(differs)}" if differs else "of other options, data or code"
            raise InputError(f"--name {config.name}: {folder} holds a result {what}; choose another name")
    return folder


def identity(record: Mapping[str, Any], provenance: Provenance) -> str:
    """Eight hexadecimal digits over everything that a number depends on: options, data, device, versions, code."""
    content = json.dumps([record, asdict(provenance), versions()], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def format_number(value: Any) -> str:
    """All digits of a number, for a file name: 0, 0.2, 0.3333333; a text as it is."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def versions() -> dict[str, str]:
    """Of Python, of the packages, and of the code that makes the numbers."""
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        **{name: version(name) for name in PACKAGES},
        "code": CODE_VERSION,
    }


def without_nan(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: a metric that is not defined becomes null."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}
