"""Repeat a results folder from its record and compare: `python -m noisy_feedback.reproduce FOLDER`.

Exit status 0 where everything but versions is the same, 1 where something differs.
"""

import json
import shutil
import sys
import tempfile
from argparse import Namespace
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from textwrap import shorten
from typing import Any

from noisy_feedback.cli import OneLineParser
from noisy_feedback.config import SWEEP_AXES, Config
from noisy_feedback.errors import InputError, run_with_error_messages
from noisy_feedback.files import METADATA, check_writable, sha256_of

MODELS = ("model_before.safetensors", "model_best.safetensors", "model_last.safetensors")
COMPARED = {  # by the record of the folder
    "run.json": ("run.json", "curves.csv", "feedback.csv", "annotators.csv", *MODELS),
    "sweep.json": ("sweep.json", "runs.csv", "curves.csv", "summary.csv"),
}
# Versions and the identity that they are part of: whether they change a number is the question. The name and place of
# the data: they are known by their content.
NOT_COMPARED = ("versions", "identity", "path", "comparisons_path", "texts_path")
NOT_COMPARED_INSIDE = {"data": ("name",), "judgements": ("name",), "encoder": ("library", "device")}
INPUTS = {"path": "reviews", "comparisons": "comparisons", "texts": "texts"}  # by the option that names the file
PROJECT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Record:
    """What a results folder says about how it was made."""

    file: Path  # run.json or sweep.json
    runs: list[Config]
    sha256: dict[str, str | None]  # of INPUTS
    embeddings_sha256: str
    versions: dict[str, str]


def main() -> int:
    """The command line; returns the exit status."""
    parser = OneLineParser(
        prog="python -m noisy_feedback.reproduce",
        description="Repeat a run or a sweep from its results folder and say what differs (exit status 1).",
    )
    parser.add_argument("folder", type=Path, help="results folder of main.py or config.py")
    for option, what in INPUTS.items():
        parser.add_argument(f"--{option}", type=Path, help=f"file of {what}, where it is not at its recorded place")
    parser.add_argument("--embeddings", type=Path, help="folder of stored embeddings (default: beside the data)")
    parser.add_argument("--output", type=Path, help="folder for the temporary results (default: beside the folder)")
    parser.add_argument("--dask", metavar="ADDRESS", help="repeat a sweep on this Dask cluster")
    parser.add_argument("-h", "--help", action="help", help="show this help and exit")
    return run_with_error_messages(parser.prog, lambda: reproduce(parser.parse_args()))


def reproduce(given: Namespace) -> bool:
    """Repeat a folder beside it, on the recorded embeddings if they are stored; keep the repetition if it differs.

    Returns whether everything is the same. Errors: InputError where the folder holds no result, or the data differ.
    """
    record = read_record(given.folder)
    found: dict[str, Any] = {
        name: find_same(record, name, getattr(given, name)) for name in INPUTS if record.sha256[name]
    }
    old = record.file.parent
    parent = given.output or old.resolve().parent
    check_writable(parent)
    from noisy_feedback.experiment import run  # imports torch: only once the record is known to be right
    from noisy_feedback.sweep import run_sweep

    parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix="reproduce-", dir=parent))
    try:
        runs = [replace(run, **found, embeddings=given.embeddings, output=temporary) for run in record.runs]
        if record.file.name == "run.json":
            new = run(runs[0], record.embeddings_sha256)
        else:
            new = run_sweep(runs, given.dask, record.embeddings_sha256)
        names = [name for name in COMPARED[record.file.name] if (old / name).is_file() or (new / name).is_file()]
        differences = {name: difference(old / name, new / name) for name in names}
        now = json.loads((new / record.file.name).read_text(encoding="utf-8"))["versions"]
    except BaseException:
        shutil.rmtree(temporary)
        raise
    print(f"\nreproduced {old}")
    for name, version in now.items():
        if record.versions.get(name) != version:
            print(f"version    {name}: {record.versions.get(name)} before, {version} now")
    for name, how in differences.items():
        print(f"{name:25} {how or 'the same'}")
    if any(differences.values()):
        print(f"differs    the new results are in {new}")
        return False
    shutil.rmtree(temporary)
    print("all files match; temporary results deleted")
    return True


def read_record(folder: Path) -> Record:
    """Read run.json or sweep.json. Errors: InputError where `folder` holds none of them, or a damaged one."""
    folder = folder.parent if folder.is_file() else folder
    file = next((folder / name for name in COMPARED if (folder / name).is_file()), None)
    if file is None:
        raise InputError(f"{folder}: holds neither {' nor '.join(COMPARED)}; give a folder that a script has written")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        places = {option: content["path" if option == "path" else f"{option}_path"] for option in INPUTS}
        shared = {
            **content["config"],
            **{option: place and Path(place) for option, place in places.items()},
            "hidden": tuple(content["config"]["hidden"]),
            "pc": content["encoder"]["pooling"] is None,  # the embeddings were given
            "truncate": content["encoder"]["truncate"],
            "use_cuda": content["device"] != "cpu",
        }
        recorded = [{**shared, **axes} for axes in content.get("runs", [{}])]
        runs = [Config(**options | {axis: options[axis] for axis in SWEEP_AXES}) for options in recorded]
        judged = content["judgements"] or dict.fromkeys(("sha256", "texts_sha256"))
        reviews = content["data"]["sha256"] if runs[0].path else None  # None: comparisons alone
        sha256 = {"path": reviews, "comparisons": judged["sha256"], "texts": judged["texts_sha256"]}
        return Record(file, runs, sha256, content["encoder"]["sha256"], dict(content["versions"]))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{file}: damaged, or of another version of this project ({error!r})") from None


def find_same(record: Record, option: str, given: Path | None) -> Path:
    """The file with the recorded content: the given one, or the recorded one, seen from here or from the script."""
    from noisy_feedback.data.reviews import find_reviews  # imports pandas: only once the record is known to be right

    run = record.runs[0]
    recorded = getattr(run, option)
    tried = [given] if given else [recorded, PROJECT / run.protocol / recorded]
    for place in tried:
        with suppress(InputError):
            file = find_reviews(place)
            if sha256_of(file) == record.sha256[option]:
                return file
    raise InputError(
        f"{record.file.parent}: its {INPUTS[option]} are not at {tried[0]}, or have changed (their SHA-256 differs); "
        f"name the file with --{option}"
    )


def difference(old: Path, new: Path) -> str:
    """Which parts of two files differ, of a table how many cells, and by how much; empty where none does."""
    if not old.is_file() or not new.is_file():
        return f"is missing from the {'old' if new.is_file() else 'new'} results"
    if old.read_bytes() == new.read_bytes():
        return ""
    import pandas as pd

    try:
        before, after = parts_of(old), parts_of(new)
        names = [name for name in {**before, **after} if before.get(name, "missing") != after.get(name, "missing")]
        largest = pd.Series([largest_distance(before.get(name), after.get(name)) for name in names], dtype=float).max()
    except Exception as error:  # a damaged file makes the readers raise many kinds; for the user they are one
        return f"cannot be compared ({' '.join(str(error).split())[:200]})"
    where = shorten(", ".join(names), 100)
    if old.suffix == ".csv":
        cells = [
            cell for name in {**before, **after} for cell in zip_longest(before.get(name, ()), after.get(name, ()))
        ]
        different = sum(first != second for first, second in cells)
        where = f"{different} of {len(cells)} cells ({where or 'order or layout'})"
    by = f", by at most {largest:.3g}" if largest > 0 else ""
    return f"differs in {where}{by}" if where else ""


def parts_of(file: Path) -> dict[str, Any]:
    """What is compared of a file, by name: columns of a table, parts of a record, tensors of a model."""
    if file.suffix == ".json":
        return compared_parts(json.loads(file.read_text(encoding="utf-8")))
    if file.suffix == ".csv":
        import pandas as pd

        table = pd.read_csv(file, dtype=str, keep_default_na=False)
        return {str(name): table[name].tolist() for name in table}
    from safetensors import safe_open

    with safe_open(file, framework="np") as stored:
        about = compared_parts(json.loads(stored.metadata()[METADATA]))
        return {name: stored.get_tensor(name).ravel().tolist() for name in stored.keys()} | about  # noqa: SIM118


def largest_distance(before: Any, after: Any) -> float:
    """Of the numbers in two lists, dicts or values; NaN where there are none."""
    import pandas as pd

    one, other = (pd.to_numeric(pd.Series(part, dtype=object), errors="coerce") for part in (before, after))
    return (one - other).abs().max()


def compared_parts(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what is not compared."""
    parts = {name: part for name, part in record.items() if name not in NOT_COMPARED}
    for name, left_out in NOT_COMPARED_INSIDE.items():
        if isinstance(part := parts.get(name), dict):
            parts[name] = {key: value for key, value in part.items() if key not in left_out}
    return parts


if __name__ == "__main__":
    sys.exit(main())
