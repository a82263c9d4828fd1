"""Repeat a results folder from its record and compare: `python -m noisy_feedback.reproduce FOLDER`.

Exit status 0 where everything but versions is the same, 1 where something differs.
"""

import csv
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from noisy_feedback.cli import OneLineParser
from noisy_feedback.config import SWEEP_AXES, Config, Sweep
from noisy_feedback.errors import InputError, run_with_error_messages
from noisy_feedback.files import METADATA, check_writable, sha256_of

COMPARED = {  # by the record of the folder
    "run.json": (
        "run.json",
        "curves.csv",
        "feedback.csv",
        "annotators.csv",
        "model_before.safetensors",
        "model_best.safetensors",
        "model_last.safetensors",
    ),
    "sweep.json": ("sweep.json", "runs.csv", "curves.csv", "summary.csv"),
}
# Versions and the identity that they are part of: whether they change a number is the question. The name and place of
# the reviews: they are known by their content.
NOT_COMPARED = (
    "versions",
    "identity",
    "path",
    "comparisons_path",
    "data.name",
    "judgements.name",
    "encoder.library",
    "encoder.device",
)
PROJECT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Record:
    """What a results folder says about how it was made."""

    folder: Path
    file: str  # run.json or sweep.json
    content: dict[str, Any]

    def runs(self) -> list[Config]:
        """The runs of the folder. Errors: KeyError, TypeError, ValueError for a record that no script has written."""
        shared = dict(self.content["config"])
        shared["hidden"] = tuple(shared["hidden"])
        shared["pc"] = self.content["encoder"]["pooling"] is None  # the embeddings were given
        shared["use_cuda"] = self.content["device"] != "cpu"
        if self.file == "run.json":
            return [Config(**shared)]
        runs = [Config(**shared, **{axis: values[axis] for axis in SWEEP_AXES}) for values in self.content["runs"]]
        if not runs:
            raise ValueError("no runs")
        return runs

    def places(self, name: str) -> list[Path]:
        """Where a recorded file may be: its recorded place, as seen from here or from the script."""
        recorded = Path(self.content[name])
        return [recorded, PROJECT / self.content["config"]["protocol"] / recorded]

    def check(self) -> None:
        """Find now what would fail later. Errors: AttributeError, KeyError, TypeError, ValueError."""
        content, run = self.content, self.runs()[0]
        content["versions"].items()
        texts = {
            **{name: getattr(run, name) for name in ("text_column", "rating_column", "model_name")},
            **{name: content[name] for name in ("path", "device")},
            "data.name": content["data"]["name"],
            **{f"{part}.sha256": content[part]["sha256"] for part in ("data", "encoder")},
        }
        for name, text in texts.items():
            if not isinstance(text, str):
                raise ValueError(f"{name}: {text!r} is no text")
        if content["judgements"] is not None:
            for text in (content["comparisons_path"], content["judgements"]["sha256"]):
                if not isinstance(text, str):
                    raise ValueError(f"judgements: {text!r} is no text")


def main() -> int:
    """The command line; returns the exit status."""
    parser = OneLineParser(
        prog="python -m noisy_feedback.reproduce",
        description="Repeat a run or a sweep from its results folder and say what differs (exit status 1).",
    )
    parser.add_argument("folder", type=Path, help="results folder of main.py or config.py")
    parser.add_argument("--path", type=Path, help="file of reviews, where it is not at its recorded place")
    parser.add_argument("--comparisons", type=Path, help="file of comparisons, where it is not at its recorded place")
    parser.add_argument("--output", type=Path, help="folder for the temporary results (default: beside the folder)")
    parser.add_argument("--dask", metavar="ADDRESS", help="repeat a sweep on this Dask cluster")
    parser.add_argument("-h", "--help", action="help", help="show this help and exit")

    def work() -> bool:
        arguments = parser.parse_args()
        return reproduce(**vars(arguments))

    return run_with_error_messages(parser.prog, work)


def reproduce(
    folder: Path,
    path: Path | None = None,
    comparisons: Path | None = None,
    output: Path | None = None,
    dask: str | None = None,
) -> bool:
    """Repeat a folder beside it, print what differs, and keep the repetition only where something does.

    Returns whether everything is the same. Errors: InputError where the folder holds no result, or the data differ.
    """
    record = read_record(folder)
    reviews, judgements = find_same_reviews(record, path), find_same_comparisons(record, comparisons)
    parent = output or record.folder.resolve().parent
    check_writable(parent)
    is_new = not parent.exists()
    parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix="reproduce-", dir=parent))
    try:
        runs = [replace(run, path=reviews, comparisons=judgements, output=temporary) for run in record.runs()]
        repeated = repeat(record, runs, dask)
        pairs = [(record.folder / name, repeated / name) for name in COMPARED[record.file]]
        differences = {old.name: difference(old, new) for old, new in pairs if old.is_file() or new.is_file()}
        versions = changed_versions(record, repeated)
    except BaseException:
        remove(temporary, is_new)
        raise
    print("\n".join([f"\nreproduced {record.folder}", *versions]))
    for name, how in differences.items():
        print(f"{name:25} {how or 'the same'}")
    if any(differences.values()):
        print(f"differs    the new results are in {repeated}")
        return False
    remove(temporary, is_new)
    print("all files match; temporary results deleted")
    return True


def remove(temporary: Path, with_parent: bool) -> None:
    """Remove the temporary results, and the folder around them where it was made for them and is empty."""
    shutil.rmtree(temporary)
    if with_parent:
        with suppress(OSError):
            temporary.parent.rmdir()


def read_record(folder: Path) -> Record:
    """Read run.json or sweep.json. Errors: InputError where `folder` holds none of them, or a damaged one."""
    folder = folder.parent if folder.is_file() else folder
    for name in COMPARED:
        if (folder / name).is_file():
            break
    else:
        raise InputError(f"{folder}: holds neither {' nor '.join(COMPARED)}; give a folder that a script has written")
    try:
        record = Record(folder, name, json.loads((folder / name).read_text(encoding="utf-8")))
        record.check()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{folder / name}: damaged, or of another version of this project ({error!r})") from None
    return record


def find_same_reviews(record: Record, path: Path | None) -> Path:
    """The file with the recorded content: `path`, or the recorded place, as seen from here or from the script."""
    from noisy_feedback.data.reviews import find_reviews  # imports pandas: only once the record is known to be right

    tried = [path] if path else record.places("path")
    for place in tried:
        with suppress(InputError):
            file = find_reviews(place)
            if sha256_of(file) == record.content["data"]["sha256"]:
                return file
    raise InputError(
        f"{record.folder}: its reviews ({record.content['data']['name']}) are not at {tried[0]}, or have changed "
        "(their SHA-256 differs); name the file with --path"
    )


def find_same_comparisons(record: Record, path: Path | None) -> Path | None:
    """The file of comparisons with the recorded content, found in the same way; None where feedback was simulated."""
    if record.content["judgements"] is None:
        return None
    tried = [path] if path else record.places("comparisons_path")
    for file in tried:
        if file.is_file() and sha256_of(file) == record.content["judgements"]["sha256"]:
            return file
    raise InputError(
        f"{record.folder}: its comparisons ({record.content['judgements']['name']}) are not at {tried[0]}, or have "
        "changed (their SHA-256 differs); name the file with --comparisons"
    )


def repeat(record: Record, runs: list[Config], dask: str | None) -> Path:
    """Run it again, on exactly the recorded embeddings where they are still stored; returns the new folder."""
    from noisy_feedback.experiment import run
    from noisy_feedback.sweep import run_sweep

    sha256 = record.content["encoder"]["sha256"]
    if record.file == "run.json":
        return run(runs[0], sha256)
    return run_sweep(Sweep(runs[0], runs, dask), sha256)


def difference(old: Path, new: Path) -> str:
    """What differs between two files: how many values, and the largest difference; empty where nothing does."""
    if not old.is_file() or not new.is_file():
        return f"is missing from the {'old' if new.is_file() else 'new'} results"
    if old.read_bytes() == new.read_bytes():
        return ""
    try:
        before, after = dict(values_of(old)), dict(values_of(new))
    except (ValueError, csv.Error, OSError) as error:
        return f"cannot be read ({error})"
    places = dict.fromkeys((*before, *after))
    different = [
        place for place in places if place not in before or place not in after or before[place] != after[place]
    ]
    if not different:
        return ""
    largest = max(different, key=lambda place: distance(before.get(place), after.get(place)))
    return (
        f"{len(different)} of {len(places)} values differ, the largest difference is in "
        f"{largest}: {before.get(largest, 'absent')} before, {after.get(largest, 'absent')} now"
    )


def distance(old: Any, new: Any) -> float:
    """The distance of two numbers; infinite for anything else."""
    try:
        return abs(float(old) - float(new))
    except (TypeError, ValueError):
        return float("inf")


def values_of(file: Path) -> Iterator[tuple[str, Any]]:
    """Every value of a results file with the name of its place."""
    if file.suffix == ".safetensors":
        yield from values_of_model(file)
        return
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        yield from flatten(json.loads(text), "")
        return
    header, *rows = csv.reader(text.splitlines())
    yield "number of rows", len(rows)
    for column, name in enumerate(header):
        yield f"name of column {column + 1}", name
    for number, row in enumerate(rows, start=1):
        yield f"length of row {number}", len(row)
        yield from (
            (f"{name} in row {number}, column {column + 1}", value)
            for column, (name, value) in enumerate(zip(header, row, strict=False))
        )


def values_of_model(file: Path) -> Iterator[tuple[str, Any]]:
    """Every weight of a saved model, and everything that its metadata says."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as stored:
            yield from flatten(json.loads((stored.metadata() or {}).get(METADATA, "{}")), "metadata")
            for name in sorted(stored.keys()):
                weights = stored.get_tensor(name)
                yield f"shape of {name}", weights.shape
                yield from ((f"{name}[{place}]", float(value)) for place, value in enumerate(weights.ravel()))
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def flatten(content: Any, place: str) -> Iterator[tuple[str, Any]]:
    """The values of nested dictionaries and lists, empty ones included, but for what is not compared."""
    if any(
        place == name or place.startswith(f"{name}.")
        for name in (*NOT_COMPARED, *(f"metadata.{n}" for n in NOT_COMPARED))
    ):
        return
    if not isinstance(content, (dict, list)) or not content:
        yield place, content
        return
    for name, part in content.items() if isinstance(content, dict) else enumerate(content):
        yield from flatten(part, f"{place}.{name}" if place else str(name))


def changed_versions(record: Record, repeated: Path) -> list[str]:
    """One line for every package whose version has changed."""
    old = record.content["versions"]
    new = json.loads((repeated / record.file).read_text(encoding="utf-8"))["versions"]
    return [f"version    {name}: {old.get(name)} before, {new[name]} now" for name in new if old.get(name) != new[name]]


if __name__ == "__main__":
    sys.exit(main())
