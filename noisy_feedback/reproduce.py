"""Repeat a results folder from its record and compare: `python -m noisy_feedback.reproduce FOLDER`.

Exit status 0 where everything but versions is the same, 1 where something differs.
"""

import json
import shutil
import sys
import tempfile
from argparse import Namespace
from contextlib import ExitStack, suppress
from dataclasses import replace
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
# By the beginnings of their names: versions and the identity that they are part of, since whether they change a number
# is the question; the name and place of the data, which are known by their content.
NOT_COMPARED = (
    *("versions.", "identity", "path", "comparisons_path", "texts_path", "data.name", "judgements.name"),
    *("encoder.library", "encoder.device"),
)
INPUTS = {"path": "reviews", "comparisons": "comparisons", "texts": "texts"}  # by the option that names the file
PROJECT = Path(__file__).parents[1]


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
    return run_with_error_messages(parser.prog, lambda: reproduce(parser.parse_args()))


def reproduce(given: Namespace) -> bool:
    """Repeat a folder beside it, on the recorded embeddings if they are stored; keep the repetition if it differs.

    Returns whether everything is the same. Errors: InputError where the folder holds no result, or the data differ.
    """
    old = given.folder.parent if given.folder.is_file() else given.folder
    record = next((name for name in COMPARED if (old / name).is_file()), None)
    if record is None:
        raise InputError(f"{old}: holds neither {' nor '.join(COMPARED)}; give a folder that a script has written")
    recorded, sha256, versions = read_record(old / record)
    found: Any = {name: find_same(old, name, getattr(given, name), recorded[0], sha256[name]) for name in INPUTS}
    parent = given.output or old.resolve().parent
    check_writable(parent)
    from noisy_feedback.experiment import run  # imports torch: only once the record is known to be right
    from noisy_feedback.sweep import run_sweep

    parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        temporary = Path(tempfile.mkdtemp(prefix="reproduce-", dir=parent))
        stack.callback(shutil.rmtree, temporary)
        found |= {"embeddings": given.embeddings, "output": temporary, "dask": given.dask}
        runs = [replace(run, **found) for run in recorded]
        vectors = sha256["embeddings"]
        new = run(runs[0], vectors) if record == "run.json" else run_sweep(runs, vectors)
        print(f"\nreproduced {old}")
        for name, version in json.loads((new / record).read_text(encoding="utf-8"))["versions"].items():
            if (before := versions.get(name)) != version:
                print(f"version    {name}: {before} before, {version} now")
        names = [name for name in COMPARED[record] if (old / name).is_file() or (new / name).is_file()]
        differences = {name: difference(old / name, new / name) for name in names}
        for name, how in differences.items():
            print(f"{name:25} {how or 'the same'}")
        if any(differences.values()):
            print(f"differs    the new results are in {new}")
            stack.pop_all()
            return False
    print("all files match; temporary results deleted")
    return True


def read_record(file: Path) -> tuple[list[Config], dict[str, str | None], dict[str, str]]:
    """The runs that run.json or sweep.json is of, the SHA-256 of INPUTS and embeddings, and the versions.

    Errors: InputError where it is damaged.
    """
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
        if not runs:
            raise LookupError("no runs")
        judged = content["judgements"] or {}
        sha256 = {"path": content["data"]["sha256"], "embeddings": content["encoder"]["sha256"]}
        sha256 |= {"comparisons": judged.get("sha256"), "texts": judged.get("texts_sha256")}
        return runs, sha256, dict(content["versions"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{file}: damaged, or of another version of this project ({error!r})") from None


def find_same(folder: Path, option: str, given: Path | None, run: Config, sha256: str | None) -> Path | None:
    """The file with the recorded content: the given one, or the recorded one, seen from here or from the script."""
    from noisy_feedback.data.reviews import find_reviews  # imports pandas: only once the record is known to be right

    if (recorded := getattr(run, option)) is None:
        return None
    tried = [given] if given else [recorded, PROJECT / run.protocol / recorded]
    for place in tried:
        with suppress(InputError):
            file = find_reviews(place)
            if sha256_of(file) == sha256:
                return file
    raise InputError(
        f"{folder}: its {INPUTS[option]} are not at {tried[0]}, or have changed (their SHA-256 differs); name the file "
        f"with --{option}"
    )


def difference(old: Path, new: Path) -> str:
    """How many values of two files differ, which, and by how much; empty where none does."""
    if not old.is_file() or not new.is_file():
        return f"is missing from the {'old' if new.is_file() else 'new'} results"
    if old.read_bytes() == new.read_bytes():
        return ""
    import pandas as pd

    try:
        before, after = values_of(old).align(values_of(new))
    except Exception as error:  # a damaged file makes the readers raise many kinds; for the user they are one
        return f"cannot be compared ({' '.join(str(error).split())[:200]})"
    differs = before.map(repr) != after.map(repr)
    if not differs.any():
        return "differs in its layout" if old.suffix == ".csv" else ""
    names = shorten(", ".join(before.index[differs].unique(0)), 100)
    one, other = (pd.to_numeric(values[differs], errors="coerce") for values in (before, after))
    by = f", by at most {largest:.3g}" if (largest := (one - other).abs().max()) > 0 else ""
    return f"differs in {differs.sum()} of {len(differs)} values ({names}){by}"


def values_of(file: Path) -> Any:
    """A Series of what is compared of a table, a record or a model, by name and place: cells, values, weights."""
    import pandas as pd

    if file.suffix == ".csv":
        return pd.read_csv(file, dtype=str, keep_default_na=False).unstack()
    if file.suffix == ".json":
        record, weights = json.loads(file.read_text(encoding="utf-8")), {}
    else:
        from safetensors import safe_open

        with safe_open(file, framework="np") as stored:
            record = json.loads(stored.metadata()[METADATA])
            weights = {name: pd.Series(stored.get_tensor(name).ravel()) for name in stored.keys()}  # noqa: SIM118
    values = pd.json_normalize(record)
    kept = [name for name in values if not str(name).startswith(NOT_COMPARED)]
    return pd.concat([values[kept].unstack(), *([pd.concat(weights)] if weights else [])]).astype(object)


if __name__ == "__main__":
    sys.exit(main())
