"""A results folder made again: the options it was made with, read from it, and what differs from what is made now."""

import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from noisy_feedback.errors import InputError
from noisy_feedback.files import check_writable, sha256_of
from noisy_feedback.settings import COMBINATION, Settings, Study

RECORD = {"main.py": "run.json", "config.py": "settings.json"}  # what says how a folder was made
COMPARED = {
    "main.py": ("run.json", "curves.csv", "model.safetensors"),
    "config.py": ("settings.json", "runs.csv", "curves.csv", "summary.csv"),
}
# Where the reviews lie changes no number; versions are told apart, and whether they changed a number is what is asked.
NOT_COMPARED = ("arguments.path", "encoder.library", "versions.")


@dataclass(frozen=True)
class Record:
    """What a results folder says of how it was made."""

    folder: Path
    script: str  # main.py or config.py
    content: dict[str, Any]

    def options(self) -> list[str]:
        """The command line that it stands for, defaults spelt out."""
        arguments = dict(self.content["arguments"])
        if self.script == "config.py":
            arguments |= {name: self.content[name] for name in (*COMBINATION.values(), "ratio")}
            arguments["seeds"] = self.content["seed"]
        if arguments.pop("gap") is not None:
            del arguments["k"]  # the script's own, no option of it
        found = []
        for name, value in arguments.items():
            option = "--" + (name if name == "model_name" else name.replace("_", "-"))
            if isinstance(value, list):
                found += [option, *map(str, value)] if value else []
            elif value is True:
                found.append(option)
            elif value is not None and value is not False:
                found.append(f"{option}={value}")
        if "pooling" not in self.content["encoder"]:
            found.append("--pc")  # the embeddings were given, not made
        if self.content["device"] == "cuda":
            found.append("--use-cuda")
        return found


def read_record(folder: Path, script: str, study: Study) -> Record:
    """Read run.json or settings.json. Errors: InputError where `folder` is no result of this study's script."""
    folder = folder.parent if folder.is_file() else folder
    file = folder / RECORD[script]
    if not file.is_file():
        (other,) = (name for name in RECORD if name != script)
        hint = f"that is for {other}" if (folder / RECORD[other]).is_file() else f"name one that {script} has left"
        raise InputError(f"--rerun {folder}: holds no {file.name}; {hint}")
    try:
        record = Record(folder, script, json.loads(file.read_text(encoding="utf-8")))
        made_by, gap = record.content["study"], record.content["arguments"]["gap"]
        record.options(), record.content["data"]["sha256"], record.content["versions"].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: damaged, or of another version of this project ({error!r})") from None
    if made_by != study.name:
        raise InputError(f"--rerun {folder}: made by {made_by}/{script}; run it there")
    if gap != study.gap:
        raise InputError(f"--rerun {folder}: made with a gap of {gap}, which is {study.gap} in {script}; set it there")
    return record


def make_again(record: Record, settings: Settings, make: Callable[[Settings], Path]) -> bool:
    """Make a folder again beside the others, tell what differs, and keep it only if something does.

    `make` takes the settings, with an output folder of its own, and gives the folder that it made.
    """
    check_reviews(record, settings)
    check_writable(settings.output)
    made_output = not settings.output.exists()
    settings.output.mkdir(parents=True, exist_ok=True)
    output = Path(tempfile.mkdtemp(prefix="rerun-", dir=settings.output))
    try:
        remade = make(replace(settings, output=output))
        differing = {name: difference(record.folder / name, remade / name) for name in COMPARED[record.script]}
        versions = changed_versions(record, remade)
    except BaseException:
        clear(output, made_output)
        raise
    print("\n".join([f"\nmade again {record.folder}", *versions]))
    for name, how in differing.items():
        print(f"{name:20}{how or 'the same'}")
    if any(differing.values()):
        print(f"differs    what was made now is in {remade}")
        return False
    clear(output, made_output)
    print("nothing differs; what was made now is removed again")
    return True


def clear(output: Path, made_parent: bool) -> None:
    """Remove the rerun's folder, and the one around it if it was made for it and nobody else has used it."""
    shutil.rmtree(output)
    if made_parent:
        with suppress(OSError):
            output.parent.rmdir()


def check_reviews(record: Record, settings: Settings) -> None:
    """Refuse other reviews than the folder was made from, before the work."""
    from noisy_feedback.reviews import find_reviews  # imports pandas: only once the options are known to be right

    file = find_reviews(settings.path)
    if sha256_of(file) != record.content["data"]["sha256"]:
        raise InputError(
            f"--rerun {record.folder}: made from other reviews than {file} (its SHA-256 differs); "
            "name theirs with --path"
        )


def difference(then: Path, now: Path) -> str:
    """What differs between two files, as a count and the widest gap; empty where it is nothing that is compared."""
    if not then.is_file():
        return "is missing from the folder"
    if then.read_bytes() == now.read_bytes():
        return ""
    if then.suffix == ".safetensors":
        return difference_of_weights(then, now)
    try:
        before, after = dict(leaves_of(then)), dict(leaves_of(now))
    except (ValueError, csv.Error) as error:
        return f"cannot be read ({error})"
    places = {place: None for place in (*before, *after) if not place.startswith(NOT_COMPARED)}
    differing = [place for place in places if before.get(place) != after.get(place)]
    if not differing:
        return ""
    widest = max(differing, key=lambda place: distance(before.get(place), after.get(place)))
    return (
        f"{len(differing)} of {len(places)} values differ, most of all "
        f"{widest}: {before.get(widest)} then, {after.get(widest)} now"
    )


def difference_of_weights(then: Path, now: Path) -> str:
    """What differs between the tensors of two files."""
    import numpy as np  # only once the options are known to be right
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        before = load_file(then)
    except (SafetensorError, OSError) as error:
        return f"cannot be read ({error})"
    after = load_file(now)
    if {name: tensor.shape for name, tensor in before.items()} != {name: part.shape for name, part in after.items()}:
        return "holds tensors of other names or shapes"
    gaps = np.concatenate([np.abs(before[name] - after[name]).ravel() for name in after])
    if not gaps.any():
        return ""
    return f"{np.count_nonzero(gaps)} of {gaps.size} weights differ, by {gaps.max():.3g} at most"


def distance(then: Any, now: Any) -> float:
    """The distance of two numbers; anything else is as far apart as can be."""
    try:
        return abs(float(then) - float(now))
    except (TypeError, ValueError):
        return float("inf")


def leaves_of(file: Path) -> Iterator[tuple[str, Any]]:
    """Every value of a JSON or CSV file with the name of its place."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        yield from leaves(json.loads(text), "")
        return
    for number, row in enumerate(csv.DictReader(text.splitlines()), start=1):
        yield from ((f"{column} in row {number}", value) for column, value in row.items())


def leaves(content: Any, place: str) -> Iterator[tuple[str, Any]]:
    parts = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else None
    if parts is None:
        yield place, content
        return
    for name, part in parts:
        yield from leaves(part, f"{place}.{name}" if place else str(name))


def changed_versions(record: Record, remade: Path) -> list[str]:
    """One line for every package whose version is another now."""
    then = record.content["versions"]
    now = json.loads((remade / RECORD[record.script]).read_text(encoding="utf-8"))["versions"]
    return [f"version    {name} {then.get(name)} then, {now[name]} now" for name in now if then.get(name) != now[name]]
