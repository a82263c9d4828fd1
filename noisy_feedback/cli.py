"""The command line of `main.py` and `config.py`: arguments -> Config; every mistake is one line and exit status 2."""

import argparse
import json
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from noisy_feedback import processes
from noisy_feedback.config import OPTIONS, PROTOCOLS, SWEEP_AXES, Config, default_values, grid
from noisy_feedback.errors import InputError, run_with_error_messages
from noisy_feedback.options import SWITCH, Numbers, Option

DEPARTURES = {  # of the published code from its own description: an option and its value
    "labels": ("validation_ratings", "misaligned"),
    "noise": ("noise", "redrawn"),
    "order": ("list_order", "row"),
}


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=HelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


class HelpFormatter(argparse.HelpFormatter):
    """Breaks no name into two halves."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


def run_main(protocol: str) -> int:
    """`main.py`: one run of the protocol; returns the exit status."""
    what = "train a rating model on embeddings of reviews, fine-tune it on noisy comparisons, and evaluate it"

    def work() -> None:
        (config,) = read_arguments(protocol, "main.py", f"One run of the {protocol} study: {what}.")
        from noisy_feedback.experiment import run  # imports torch: only once the arguments are known to be right

        run(config)

    return run_with_error_messages("main.py", work)


def run_config(protocol: str) -> int:
    """`config.py`: the protocol over seeds, noise ratios and more; returns the exit status."""
    again = "Repeat a command to compute only what is missing; add seeds or ratios to extend the sweep."
    about = f"The {protocol} study over seeds and noise ratios, with tables and figures. {again}"

    def work() -> None:
        runs = read_arguments(protocol, "config.py", about)
        with processes.uninterrupted():
            # Workers import what this process does, at the same time. A finished sweep that is repeated needs none.
            if runs[0].dask is None and processes.available_cores() > 1 and not is_finished(runs):
                processes.start_server()
            from noisy_feedback.sweep import run_sweep

        run_sweep(runs)

    return run_with_error_messages("config.py", work)


def is_finished(runs: Sequence[Config]) -> bool:
    """Whether a sweep of the same seeds, losses, noise and ratios is in the results; its other options may differ."""
    wanted = [{axis: getattr(run, axis) for axis in SWEEP_AXES} for run in runs]
    for file in runs[0].output.glob("*/sweep.json"):
        with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):  # damaged
            kept = json.loads(file.read_text(encoding="utf-8"))["runs"]
            if all(axes in kept for axes in wanted):
                return True
    return False


def read_arguments(protocol: str, script: str, about: str) -> list[Config]:
    """The runs that the command line asks for: one, or for several values of axes of a sweep the whole grid."""
    parser = OneLineParser(description=about, argument_default=argparse.SUPPRESS)
    study = parser.add_argument_group("the study's options")
    more = parser.add_argument_group("additional options")
    defaults = default_values(protocol, script)
    for name, option in OPTIONS.items():
        if option.help and protocol in (option.protocols or PROTOCOLS) and script in (option.script or script):
            is_axis = script == "config.py" and name in SWEEP_AXES
            add_option(study if option.study else more, name, option, defaults[name], is_axis)
    if protocol != "human":
        what = "repeat departures of the published code from its description, to see their effect; none named: all"
        more.add_argument("--as-published", nargs="*", choices=DEPARTURES, help=what)
    return to_configs(protocol, defaults, vars(parser.parse_args()))


def add_option(group: Any, name: str, option: Option, default: Any, is_axis: bool) -> None:
    """One argument: its spelling, its values, and a help that ends with its default."""
    flag = "--" + (name if name == "model_name" else name.replace("_", "-"))  # the study's spelling
    flag += "s" if is_axis and name == "seed" else ""
    values = option.values
    if values == SWITCH:
        group.add_argument(flag, dest=name, action="store_true", help=option.help)
        return
    notes = [", ".join(values)] if isinstance(values, tuple) else []
    shown = option.unset if default is None else default
    if shown != "":
        notes.append(f"default: {' '.join(map(str, shown)) if isinstance(shown, tuple) else shown}")
    group.add_argument(
        flag,
        dest=name,
        type=option.parse,
        nargs="+" if is_axis or isinstance(default, tuple) else None,
        metavar=values.metavar if isinstance(values, Numbers) else "PATH" if values is Path else option.metavar,
        help=f"{option.help} ({'; '.join(notes)})" if notes else option.help,
    )


def to_configs(protocol: str, values: dict[str, Any], given: dict[str, Any]) -> list[Config]:
    """The runs of the given options; the other options have these default `values`. Errors: InputError."""
    if "as_published" in given:
        values |= dict(DEPARTURES[departure] for departure in given.pop("as_published") or DEPARTURES)
        if values["noise"] == "redrawn" and protocol == "binary":
            values["noise"] = "redrawn-off-scale"
    if given.get("head") == "scalar" and values["loss"] == "study":
        values["loss"] = "bradley-terry"
    if protocol == "human" and "comparisons" in given and "path" not in given:
        values |= {"path": None, "head": "scalar"}
    if protocol == "human" and "path" in given and "comparisons" not in given:
        raise InputError("--path: name the human comparisons of these reviews, too, with --comparisons")
    losses = given.get("loss", "")
    if "kl_weight" in given and isinstance(losses, list) and all(":" in loss for loss in losses):
        raise InputError("--kl-weight: every --loss has a KL weight of its own; leave out one of them")
    values |= given
    return grid({**values, "hidden": tuple(values["hidden"])})
