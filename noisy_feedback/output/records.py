"""What runs and sweeps write to disk, and how it is found again."""

import hashlib
import json
import math
import sys
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
from noisy_feedback.output.comparisons import annotator_table, export_comparisons, feedback_table

PACKAGES = ("noisy-feedback", "torch", "numpy", "pandas", "scipy", "sentence-transformers", "safetensors")
CURVE_COLUMNS = ("phase", "epoch", *(field.name for field in fields(EpochStats)))
LONGEST_NAME = 120  # characters of a folder's name
# What a folder's name says of the options that change a result most, where they differ from the default.
NAMED = {"loss": "", "labels": "", "kl_weight": "kl", "noise": "", "head": "", "epochs_t": "t", "epochs_f": "f"}
NAMED |= {"ratio": "ratio", "seed": "seed"}
ALWAYS_NAMED = ("loss", "ratio", "seed")  # of a run


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
    write_table(folder / "curves.csv", curves_table([result])[list(CURVE_COLUMNS)])
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
    for stage in ("majority", *STAGES):
        metrics = getattr(result, stage)
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
        self.path = folder_of(config, provenance, self.shared)

    def file_of(self, run: Config) -> Path:
        values = (f"{axis.replace('_', '-')}-{as_text(getattr(run, axis))}" for axis in SWEEP_AXES)
        return self.path / "runs" / f"{'_'.join(values)}.json"

    def save(self, result: RunResult) -> None:
        """Keep one finished run, with the options and versions that the refusal of a `--name` compares."""
        made_from = {"identity": self.identity, "config": self.shared, "versions": versions()}
        content = {**asdict(result), **made_from, "axes": axes_of(result.config)}
        write_text(self.file_of(result.config), json.dumps(content))

    def load(self) -> dict[Config, RunResult]:
        """Every run that was kept; what was made otherwise, or is damaged, is left out."""
        found = {}
        for file in (self.path / "runs").glob("[!.]*.json"):
            with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
                content = json.loads(file.read_text(encoding="utf-8"))
                if content.pop("identity") == self.identity:
                    content["config"] = config = replace(self.config, **content.pop("axes"))
                    for phase in ("training", "fine_tuning"):
                        content[phase] = [EpochStats(**epoch) for epoch in content[phase]]
                    for stage in ("majority", *STAGES):
                        content[stage] = content[stage] and Metrics(**content[stage])
                    del content["versions"]
                    found[config] = RunResult(**content)
        return found

    def record(self, results: Sequence[RunResult]) -> str:
        """The content of sweep.json: what the tables were made from and which runs they hold."""
        runs = [axes_of(result.config) for result in results]
        return record_text(self.config, self.shared, self.provenance, {"runs": runs})


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


def axes_of(run: Config) -> dict[str, Any]:
    return {axis: getattr(run, axis) for axis in SWEEP_AXES}


def config_record(config: Config) -> dict[str, Any]:
    """The configuration as JSON takes it, without what changes no number."""
    values = ((name, getattr(config, name)) for name in RECORDED)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values}


def run_folder(config: Config, provenance: Provenance) -> Path:
    """The folder of a single run."""
    return folder_of(config, provenance, config_record(config))


def folder_of(config: Config, provenance: Provenance, options: Mapping[str, Any]) -> Path:
    """`--name`, or a name of the data, the protocol, the `options` that NAMED lists, and the identity.

    Errors: InputError where another result has this --name, with what differs of options, versions and code.
    """
    own = identity(options, provenance)
    if config.name is None:
        defaults = {field.name: field.default for field in fields(Config) if field.name not in ALWAYS_NAMED}
        names = [name for name in NAMED if name in options and options[name] != defaults.get(name)]
        k = [f"k{config.k}"] if config.protocol == "multiclass" else []
        parts = [provenance.data.name.partition(".")[0], config.protocol, *k]
        parts += [f"{NAMED[name]}{as_text(options[name])}" for name in names]
        return config.output / f"{'_'.join(parts)[:LONGEST_NAME]}_{own}"
    folder, here = config.output / config.name, {**options, **versions()}
    for file in (folder / "run.json", folder / "sweep.json", *(folder / "runs").glob("[!.]*.json")):
        differs = []
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            other = record["identity"] != own
            recorded = {**record.get("config", {}), **record.get("versions", {})}
            names = [name for name, value in recorded.items() if here.get(name, value) != value]
            differs = [f"{name} {recorded[name]!r} (here {here[name]!r})" for name in names]
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


def as_text(value: Any) -> str:
    """All digits of a number, for a file name: 0, 0.2, 0.3333333; a text as it is."""
    return str(value).removesuffix(".0")


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
