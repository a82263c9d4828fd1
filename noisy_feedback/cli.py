"""The command line of `main.py` and `config.py`: arguments -> Config; every mistake is one line and exit status 2."""

import argparse
import difflib
import textwrap
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from noisy_feedback import processes
from noisy_feedback.config import OPTIONS, PROTOCOLS, RATIOS, SEEDS, SIMULATED, SWEEP_AXES, Config, grid
from noisy_feedback.errors import run_with_error_messages
from noisy_feedback.options import SWITCH, Numbers, Option

DEPARTURES = ("labels", "noise", "order")  # of the published code from its own description


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, with the option that was probably meant."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, add_help=False, formatter_class=HelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            options = [option for action in self._actions for option in action.option_strings]
            given = unknown[0].partition("=")[0].replace("_", "-")
            self.error(f"unknown argument {unknown[0]}{hint(given, options, cutoff=0.75)}")
        return parsed


class HelpFormatter(argparse.HelpFormatter):
    """Breaks no name into two halves."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


def run_main(protocol: str) -> int:
    """`main.py`: one run of the protocol; returns the exit status."""
    what = "train a rating model on embeddings of reviews, fine-tune it on noisy comparisons, and evaluate it"
    parser = make_parser(protocol, "main.py", f"One run of the {protocol} study: {what}.")

    def work() -> None:
        (config,) = to_configs(parser, protocol, "main.py", vars(parser.parse_args()))
        from noisy_feedback.experiment import run  # imports torch: only once the arguments are known to be right

        run(config)

    return run_with_error_messages(parser.prog, work)


def run_config(protocol: str) -> int:
    """`config.py`: the protocol over seeds, noise ratios and more; returns the exit status."""
    again = "Repeat a command to compute only what is missing; add seeds or ratios to extend the sweep."
    about = f"The {protocol} study over seeds and noise ratios, with tables and figures. {again}"
    parser = make_parser(protocol, "config.py", about)

    def work() -> None:
        given = vars(parser.parse_args())
        dask = given.pop("dask", None)
        runs = to_configs(parser, protocol, "config.py", given)
        with processes.uninterrupted():
            # Workers import what this process does, at the same time. A finished sweep that is repeated needs none.
            if dask is None and processes.available_cores() > 1 and not any(runs[0].output.glob("*/sweep.json")):
                processes.start_server()
            from noisy_feedback.sweep import run_sweep

        run_sweep(runs, dask)

    return run_with_error_messages(parser.prog, work)


def make_parser(protocol: str, script: str, description: str) -> OneLineParser:
    """A parser with every option that the protocol's script has; it gives what was named, without defaults."""
    parser = OneLineParser(description=description, argument_default=argparse.SUPPRESS)
    study = parser.add_argument_group("the study's options")
    more = parser.add_argument_group("additional options")
    defaults = default_values(protocol, script)
    for name, option in OPTIONS.items():
        if option.help and protocol in (option.protocols or PROTOCOLS) and script in (option.script or script):
            add_option(study if option.study else more, name, option, defaults[name], script)
    if protocol != "human":
        more.add_argument(
            "--as-published",
            nargs="*",
            choices=DEPARTURES,
            help="repeat departures of the published code from its description, to see their effect; none named: all",
        )
    if script == "config.py":
        more.add_argument("--dask", metavar="ADDRESS", help="run on the Dask cluster at this address, or a 'local' one")
    more.add_argument("-h", "--help", action="help", help="show this help and exit")
    return parser


def add_option(group: Any, name: str, option: Option, default: Any, script: str) -> None:
    """One argument: its spelling, its values, and a help that ends with its default."""
    is_axis = script == "config.py" and name in SWEEP_AXES
    flag = "--" + ("seeds" if is_axis and name == "seed" else name)
    flag = flag if name == "model_name" else flag.replace("_", "-")  # the study's spelling
    if option.values == SWITCH:
        group.add_argument(flag, dest=name, action="store_true", help=option.help)
        return
    values, more = option.values, []
    convert_one: Callable[[str], Any] = partial(convert, option)
    metavar = values.metavar if isinstance(values, Numbers) else "PATH" if values is Path else "NAME"
    if isinstance(values, tuple):
        more.append(", ".join(values))
    if is_axis and name == "loss":
        convert_one, metavar = convert_loss, "NAME[:WEIGHT]"
        more.append("NAME:WEIGHT gives a loss its own KL weight")
    parts = default if isinstance(default, tuple) else (default,)
    as_typed = " ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in parts)
    if shown := option.unset if default is None else as_typed:
        more.append(f"default: {shown}")
    group.add_argument(
        flag,
        dest=name,
        type=convert_one,
        nargs="+" if is_axis or isinstance(default, tuple) else None,
        metavar=metavar,
        help=f"{option.help} ({'; '.join(more)})" if more else option.help,
    )


def convert(option: Option, text: str) -> Any:
    """Text -> a value that the option allows. Errors: ArgumentTypeError in one line."""
    value: Any = text
    if option.values is Path and text.startswith(("https://", "http://")):
        raise argparse.ArgumentTypeError(f"{text} is a web address; download the file first")
    if isinstance(option.values, type):
        return option.values(text)
    if isinstance(option.values, Numbers) and text not in option.also:
        with suppress(ValueError):
            value = option.values.kind(text)
    if not (problem := option.problem(value)):
        return value
    if isinstance(option.values, tuple):
        problem += hint(text, option.values)
    elif value is text and "," in text:
        problem += "; separate several by spaces"
    raise argparse.ArgumentTypeError(problem)


def convert_loss(text: str) -> Any:
    """A loss of a sweep: NAME -> name, NAME:WEIGHT -> (name, KL weight). Errors: ArgumentTypeError."""
    name, colon, weight = text.partition(":")
    loss = convert(OPTIONS["loss"], name)
    try:
        return (loss, convert(OPTIONS["kl_weight"], weight)) if colon else loss
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"KL weight of {text}: {error}") from None


def hint(given: str, names: Sequence[str], cutoff: float = 0.6) -> str:
    """The name whose spelling is nearest, if one is near."""
    near = difflib.get_close_matches(given, names, n=1, cutoff=cutoff)
    return f"; did you mean {near[0]}?" if near else ""


def default_values(protocol: str, script: str) -> dict[str, Any]:
    """The default of every field; of the axes of a sweep a tuple where it has several."""
    axes: dict[str, Any] = {"seed": SEEDS} if script == "config.py" else {}
    if axes and protocol in SIMULATED:
        axes["ratio"] = RATIOS
    return {**vars(Config(protocol)), **PROTOCOLS[protocol][script], **axes}


def to_configs(parser: OneLineParser, protocol: str, script: str, given: dict[str, Any]) -> list[Config]:
    """The runs that parsed arguments stand for: one, or with lists of values for axes the whole grid."""
    departures = given.pop("as_published", ())
    departures = DEPARTURES if departures == [] else departures
    if "noise" in departures and "noise" in given:
        parser.error("--noise: --as-published noise chooses the kind of noise; leave out one of them")
    if "kl_weight" in given and all(isinstance(loss, tuple) for loss in given.get("loss", [""])):
        parser.error("--kl-weight: every --loss has its own KL weight; leave out one of them")
    published = {
        "labels": ("validation_ratings", "misaligned"),
        "noise": ("noise", "redrawn-off-scale" if protocol == "binary" else "redrawn"),
        "order": ("list_order", "row"),
    }
    values = default_values(protocol, script) | dict(published[departure] for departure in departures) | given
    if values["head"] == "scalar" and "loss" not in given and values["loss"] == "study":
        values["loss"] = "bradley-terry"
    values["hidden"] = tuple(values["hidden"])
    if protocol == "human" and "comparisons" in given and "path" not in given:
        values |= {"path": None, "head": given.get("head", "scalar")}
    if protocol == "human" and "path" in given and "comparisons" not in given:
        parser.error("--path: name the human comparisons of these reviews, too, with --comparisons")
    try:
        return grid(values)
    except ValueError as error:
        parser.error(str(error))
