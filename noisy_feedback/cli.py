"""The command line of `main.py` and `config.py`: arguments -> Config; every mistake is one line and exit status 2."""

import argparse
import difflib
import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from noisy_feedback.config import (
    DEPARTURES,
    ESTIMATED,
    HEADS,
    LABELS,
    LOSSES,
    MAX_SEED,
    NOISES,
    POOLINGS,
    PROTOCOLS,
    RATIOS,
    SEEDS,
    SELECT,
    SWEEP_AXES,
    Config,
    Sweep,
    grid,
    published_choices,
)
from noisy_feedback.errors import run_with_error_messages

RENAMED = {  # names of earlier versions
    "conservative": "label-smoothing",
    "unbiased": "robust",
    "sigmoid": "symmetric-sigmoid",
    "pairs": "reversed",
    "hard": "least-confident",
    "--anchor": "--kl-weight",
    "--rerun": "python -m noisy_feedback.reproduce FOLDER",
}
NEEDS_DISTRIBUTION = "needs a distribution over ratings; give another one, or --head categorical"


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, with the option that was probably meant."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, add_help=False, formatter_class=HelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unknown argument {unknown[0]}{self.hint(unknown[0].partition('=')[0])}")
        return parsed

    def hint(self, given: str) -> str:
        """The new name of an old option, or the option whose spelling is nearest."""
        if given in RENAMED:
            return f"; it is now {RENAMED[given]}"
        options = [option for action in self._actions for option in action.option_strings]
        near = difflib.get_close_matches(given.replace("_", "-"), options, n=1, cutoff=0.75)
        return f"; did you mean {near[0]}?" if near else ""


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default where there is one to show, and no name in two halves."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default is None or action.default is False or action.default == ()
        return action.help if silent else super()._get_help_string(action)


class AllIfNoneNamed(argparse.Action):
    """An option that takes some of its choices, and means all of them when given alone."""

    def __call__(self, _: Any, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
        chosen = values or self.choices or ()
        setattr(namespace, self.dest, tuple(choice for choice in self.choices or () if choice in chosen))


def run_main(protocol: str) -> int:
    """`main.py`: one run of the protocol; returns the exit status."""
    parser = OneLineParser(
        description=f"One run of the {protocol} study: train a rating model on embeddings of reviews, "
        f"{what_it_does(protocol)}, and evaluate."
    )
    add_study_arguments(parser, protocol, "main.py")
    add_more_arguments(parser, protocol, "main.py")

    def work() -> None:
        arguments = vars(parser.parse_args())
        config = to_configs(parser, protocol, arguments)[0]
        from noisy_feedback.experiment import run  # imports torch: only once the arguments are known to be right

        run(config)

    return run_with_error_messages(parser.prog, work)


def run_config(protocol: str) -> int:
    """`config.py`: the protocol over seeds, noise ratios and more; returns the exit status."""
    parser = OneLineParser(
        description=f"The {protocol} study over seeds and noise ratios, with tables and figures. Repeat a command to "
        "compute only what is missing; add seeds or ratios to extend the sweep."
    )
    add_study_arguments(parser, protocol, "config.py")
    add_more_arguments(parser, protocol, "config.py")

    def work() -> None:
        arguments = vars(parser.parse_args())
        arguments["seed"] = arguments.pop("seeds")
        dask = arguments.pop("dask")
        runs = to_configs(parser, protocol, arguments)
        from noisy_feedback.sweep import run_sweep

        run_sweep(Sweep(runs[0], runs, dask))

    return run_with_error_messages(parser.prog, work)


def what_it_does(protocol: str) -> str:
    """What comes between training and evaluation, for the help."""
    if protocol == "human":
        return "fine-tune on comparisons that people made"
    return "make some ratings noisy, fine-tune on preferences that follow from them"


def add_study_arguments(parser: OneLineParser, protocol: str, script: str) -> None:
    """The study's own arguments, spelled as in the original."""
    default = default_config(protocol, script)
    several: dict[str, Any] = {"nargs": "+"} if script == "config.py" else {}
    group = parser.add_argument_group("the study's options")
    add = group.add_argument
    add("--use-cuda", action="store_true", help="compute on the GPU if there is one")
    add("--path", type=Path, default=default.path, help="file of reviews, or folder that holds one")
    if protocol == "human":
        add("--comparisons", type=Path, default=default.comparisons, help="file of comparisons that people made")
        add(
            "--labels",
            choices=LABELS,
            default=[default.labels] if several else default.labels,
            help="judgements to learn from: all, one of each pair at random, the majority, the true orders (gold), or "
            "these with as many reversed at random as one has wrong (flipped)",
            **several,
        )
    add("--model_name", default=default.model_name, metavar="NAME", help="encoder: hub name or folder")
    add("--pc", action="store_true", help="use pre-calculated embeddings, stored or in embeddings.pt; never embed")
    add(
        "--ratio",
        type=fraction,
        default=default_ratios(protocol, several),
        help=f"share of {'comparisons reversed' if protocol == 'human' else 'fine-tuning ratings made noisy'}, 0 to 1",
        **several,
    )
    if protocol == "multiclass":
        add("--k", type=int_at_least(1), default=default.k, help="comparisons per list of k+1 reviews, best first")
    add("--epochs-t", type=int_at_least(0), default=default.epochs_t, metavar="N", help="training epochs")
    add("--epochs-f", type=int_at_least(0), default=default.epochs_f, metavar="N", help="fine-tuning epochs")


def add_more_arguments(parser: OneLineParser, protocol: str, script: str) -> None:
    """Arguments that the original does not have."""
    default = default_config(protocol, script)
    several: dict[str, Any] = {"nargs": "+"} if script == "config.py" else {}
    group = parser.add_argument_group("additional options")
    add = group.add_argument
    if several:
        add("--seeds", type=seed, nargs="+", default=SEEDS, metavar="N", help="seeds of all random numbers")
        add("--dask", metavar="ADDRESS", help="run on the Dask cluster at this address, or on a 'local' one")
    else:
        add("--seed", type=seed, default=default.seed, metavar="N", help="seed of all random numbers")
    add(
        "--loss",
        type=choice(LOSSES),
        metavar="NAME",
        help=f"preference loss: {', '.join(LOSSES)} (default: {default.loss}"
        f"{'; with --head scalar bradley-terry' if default.loss == 'study' else ''})",
        **several,
    )
    add(
        "--kl-weight",
        type=number_from(0),
        default=default.kl_weight,
        metavar="WEIGHT",
        help="weight of the KL divergence from the model before fine-tuning; --loss robust of --head scalar needs it",
        **several,
    )
    if protocol != "human":
        add(
            "--noise",
            type=choice(NOISES),
            metavar="NAME",
            help=f"kind of noise: {', '.join(NOISES)} (default: {default.noise})",
            **several,
        )
        add(
            "--lists-per-review",
            type=int_at_least(1),
            default=default.lists_per_review,
            metavar="N",
            help="how often lists are drawn from all reviews; a review is in up to N lists",
        )
    add(
        "--flip-rate",
        type=fraction_or_estimated,
        default=default.flip_rate,
        metavar="SHARE",
        help="share of wrong comparisons that --loss label-smoothing and robust suppose; 'estimated': what the audit "
        f"finds{'' if default.flip_rate else ' (default: what --noise and --ratio imply)'}",
    )
    add("--lists", type=int_at_least(1), metavar="N", help="at most N comparisons, drawn at random (default: all)")
    add("--lr-f", type=positive, default=default.lr_f, metavar="RATE", help="fine-tuning learning rate")
    add("--batch-f", type=int_at_least(1), default=default.batch_f, metavar="N", help="comparisons per batch")
    add("--lr-t", type=positive, default=default.lr_t, metavar="RATE", help="training learning rate")
    add("--batch-t", type=int_at_least(1), default=default.batch_t, metavar="N", help="reviews per training batch")
    add(
        "--hidden",
        type=int_at_least(1),
        nargs="+",
        default=default.hidden,
        metavar="N",
        help="widths of the rating model's hidden layers",
    )
    add(
        "--head",
        choices=HEADS,
        default=default.head,
        help="the model's output: a distribution over ratings, or one number (squared error in training)",
    )
    add(
        "--select",
        choices=SELECT,
        default=default.select,
        help="validation score that chooses the best epoch"
        f"{' of training; in fine-tuning the preference accuracy does' if protocol == 'human' else ''}",
    )
    if protocol != "human":
        add(
            "--as-published",
            nargs="*",
            choices=DEPARTURES,
            action=AllIfNoneNamed,
            default=(),
            help="repeat departures of the published code from its description, to see their effect; none named: all",
        )
    add("--text-column", default=default.text_column, metavar="NAME", help="column that holds the texts")
    add("--rating-column", default=default.rating_column, metavar="NAME", help="column that holds the ratings")
    add("--group-column", metavar="NAME", help="column of groups: rows of a group stay in one part of the split")
    add(
        "--shuffle",
        action="store_true",
        help="permute rows, or groups, before the split (by the seed): for sorted files",
    )
    add("--drop-empty", action="store_true", help="drop rows without text")
    add("--drop-duplicates", action="store_true", help="keep only the first of reviews with the same text")
    add(
        "--pooling",
        choices=POOLINGS,
        default=default.pooling,
        help="how token vectors become one: as the encoder says, the [CLS] vector, or their mean",
    )
    add("--output", type=Path, default=default.output, metavar="FOLDER", help="results are saved in a folder inside it")
    if not several:
        add(
            "--export",
            type=Path,
            metavar="FILE",
            help="write the comparisons as a preference data set (.jsonl, .parquet)",
        )
    add("--name", metavar="NAME", help="name of the results folder (default: made from the options)")
    add("-h", "--help", action="help", help="show this help and exit")


def to_configs(parser: OneLineParser, protocol: str, arguments: dict[str, Any]) -> list[Config]:
    """The runs that checked arguments stand for: one, or with lists of values for axes the whole grid."""
    departures = arguments.pop("as_published", ())
    several = isinstance(arguments["ratio"], Sequence)
    default = default_config(protocol, "config.py" if several else "main.py")
    if arguments["loss"] is None:
        arguments["loss"] = "bradley-terry" if arguments["head"] == "scalar" else default.loss
    if "noise" in departures and arguments["noise"] is not None:
        parser.error("--noise: --as-published noise chooses the kind of noise; leave out one of them")
    if arguments.setdefault("noise", default.noise) is None:
        arguments["noise"] = default.noise
    arguments |= {"labels": arguments.get("labels", default.labels), **published_choices(protocol, departures)}
    arguments["hidden"] = tuple(arguments["hidden"])
    if (name := arguments["name"]) is not None and (Path(name).name != name or name in ("", "..")):
        parser.error(f"--name {name}: a name without slashes; --output chooses the folder around it")
    axes = {axis: arguments.pop(axis) for axis in SWEEP_AXES}
    axes = {axis: value if isinstance(value, (list, tuple)) else [value] for axis, value in axes.items()}
    runs = grid(Config(protocol=protocol, **arguments, **{axis: values[0] for axis, values in axes.items()}), axes)
    check_combinations(parser, runs)
    return runs if several else runs[:1]


def check_combinations(parser: OneLineParser, runs: Sequence[Config]) -> None:
    """Refuse options that do not go together."""
    for run in runs:
        needs = {
            f"--loss {run.loss}": run.loss == "study",
            "--noise least-confident": run.noise == "least-confident",
        }
        for option, given in needs.items():
            if given and run.head == "scalar":
                parser.error(f"{option} {NEEDS_DISTRIBUTION}")
        if run.loss == "robust" and isinstance(run.flip_rate, float) and run.flip_rate >= 0.5:
            parser.error(f"--flip-rate {run.flip_rate:g}: --loss robust needs one below 0.5")


def default_config(protocol: str, script: str) -> Config:
    """The defaults of a protocol's script."""
    return Config(protocol=protocol, **PROTOCOLS[protocol][script])


def default_ratios(protocol: str, several: Any) -> Any:
    """One ratio for a run; for a sweep the study's, and 0 for comparisons of people, which are noisy as they are."""
    if protocol == "human":
        return [0.0] if several else 0.0
    return RATIOS if several else 0.0


def choice(names: Sequence[str]) -> Callable[[str], str]:
    """An argument that is one of some names; an old name is answered with the new one."""

    def check(text: str) -> str:
        if text in names:
            return text
        if RENAMED.get(text) in names:
            raise argparse.ArgumentTypeError(f"{text} is now called {RENAMED[text]}")
        near = difflib.get_close_matches(text, names, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(names)}{meant}")

    return check


def fraction(text: str) -> float:
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is outside 0..1 (0.2 for 20 %)")
    return value


def fraction_or_estimated(text: str) -> float | str:
    return ESTIMATED if text == ESTIMATED else fraction(text)


def number_from(least: float) -> Callable[[str], float]:
    def check(text: str) -> float:
        value = number(text)
        if not least <= value < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not a number from {least:g} on")
        return value

    return check


def positive(text: str) -> float:
    value = number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        several = "; separate several by spaces" if "," in text else ""
        raise argparse.ArgumentTypeError(f"{text!r} is not a number{several}") from None


def seed(text: str) -> int:
    value = int_at_least(0)(text)
    if value >= MAX_SEED:
        raise argparse.ArgumentTypeError(f"{text} is not below {MAX_SEED}")
    return value


def int_at_least(least: int) -> Callable[[str], int]:
    def check(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            several = "; separate several by spaces" if "," in text else ""
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number{several}") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return value

    return check
