"""The arguments, checked; every error a user can cause is one line and exit status 2."""

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from noisy_feedback.errors import InputError
from noisy_feedback.rerun import Record, make_again, read_record
from noisy_feedback.settings import DEPARTURES, HEADS, LOSSES, NOISES, Settings, Study, Sweep

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
SEEDS = [84, 42, 21, 2, 1]
RATIOS = [0.0, 0.2, 0.4, 0.6, 0.8]
POOLINGS = ("model", "cls", "mean")
WITH_RERUN = ("--path", "--pc", "--use-cuda", "--output")  # what may stand beside --rerun; in a sweep --dask too


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default is None or action.default is False or action.default == ()
        return action.help if silent else super()._get_help_string(action)


class AllIfNoneNamed(argparse.Action):
    """An option that takes some of its choices, and means all of them when given alone."""

    def __call__(self, _: Any, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
        chosen = values or self.choices or ()
        setattr(namespace, self.dest, tuple(choice for choice in self.choices or () if choice in chosen))


def run_main(study: Study) -> int:
    """`main.py`: one run of the study; the exit status."""
    parser = new_parser(
        f"One run of the {study.name} study: train a rating regressor on review embeddings, "
        "make some ratings noisy, fine-tune on preferences made from them, and evaluate."
    )
    add_study_arguments(parser, study, one_run=True)
    add_own_arguments(parser, study, one_run=True)

    def work() -> bool | None:
        arguments, record = parse(parser, study, "main.py")
        settings = to_settings(study, arguments)
        check_remedies(parser, settings, [settings.loss], [settings.anchor], [settings.noise])
        from noisy_feedback.experiment import run  # imports torch: only once the arguments are known to be right

        if record:
            return make_again(record, settings, run)
        run(settings)
        return None

    return guarded(parser.prog, work)


def run_config(study: Study) -> int:
    """`config.py`: the study over seeds and noise ratios; the exit status."""
    parser = new_parser(
        f"The {study.name} study over seeds and noise ratios, with tables and figures. The same command again "
        "computes only what is missing; more seeds or ratios extend the same result."
    )
    add_study_arguments(parser, study, one_run=False)
    add_own_arguments(parser, study, one_run=False)

    def work() -> bool | None:
        arguments, record = parse(parser, study, "config.py")
        swept = {name: arguments.pop(name) for name in ("loss", "anchor", "noise", "ratio")}
        seeds, dask = arguments.pop("seeds"), arguments.pop("dask")
        first = {name: values[0] for name, values in swept.items()}
        shared = to_settings(study, {**arguments, **first, "seed": seeds[0]})
        check_remedies(parser, shared, swept["loss"], swept["anchor"], swept["noise"])
        sweep = Sweep(shared, seeds, swept["loss"], swept["anchor"], swept["noise"], swept["ratio"], dask)
        from noisy_feedback.sweep import run_sweep

        if record:
            return make_again(record, shared, lambda settings: run_sweep(replace(sweep, run=settings)))
        run_sweep(sweep)
        return None

    return guarded(parser.prog, work)


def parse(parser: OneLineParser, study: Study, script: str) -> tuple[dict[str, Any], Record | None]:
    """The arguments by name; with --rerun those of the folder that it names, and what that folder says."""
    first_look = OneLineParser(prog=parser.prog, allow_abbrev=False, add_help=False)
    first_look.add_argument("--rerun", type=Path)
    folder = first_look.parse_known_args()[0].rerun
    given, record = sys.argv[1:], None
    if folder is not None:
        beside = (*WITH_RERUN, "--dask") if script == "config.py" else WITH_RERUN
        named = {word.partition("=")[0] for word in given if word.startswith("--")}
        if others := sorted(named - {"--rerun", *beside}):
            parser.error(f"--rerun takes its options from the folder, not {' '.join(others)}; only {' '.join(beside)}")
        record = read_record(folder, script, study)
        given = [*record.options(), *given]
    arguments = vars(parser.parse_args(given))
    del arguments["rerun"]
    return arguments, record


def guarded(program: str, work: Callable[[], bool | None]) -> int:
    """Do the work; turn what a user can cause into one line. The exit status: 1 where the work says False."""
    try:
        return 1 if work() is False else 0
    except InputError as error:
        return complain(program, str(error))
    except OSError as error:
        return complain(program, f"{error.filename or 'a file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        print(f"{program}: interrupted; files already written are whole", file=sys.stderr)
        return 130


def complain(program: str, message: str) -> int:
    print(f"{program}: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def new_parser(description: str) -> OneLineParser:
    return OneLineParser(
        description=description,
        allow_abbrev=False,
        add_help=False,
        formatter_class=HelpFormatter,
    )


def add_study_arguments(parser: argparse.ArgumentParser, study: Study, one_run: bool) -> None:
    """The original study's own arguments, spelt as there."""
    group = parser.add_argument_group("the study's arguments")
    group.add_argument("--use-cuda", action="store_true", help="use the GPU if there is one")
    group.add_argument(
        "--path",
        type=Path,
        default=Path("../data/"),
        help="a folder with tripadvisor_hotel_reviews.csv, or a file of reviews (.csv, .tsv, .jsonl, .parquet; .gz)",
    )
    group.add_argument(
        "--model_name",
        default=DEFAULT_ENCODER,
        metavar="NAME",
        help="model that embeds the sentences: a hub name or a folder",
    )
    group.add_argument("--pc", action="store_true", help="use pre-calculated embeddings; never embed")
    several: dict[str, Any] = {} if one_run else {"nargs": "+"}
    group.add_argument(
        "--ratio",
        type=share,
        default=0.0 if one_run else RATIOS,
        help="share of fine-tuning ratings made noisy, 0 to 1",
        **several,
    )
    if study.gap is None:
        group.add_argument(
            "--k",
            type=at_least(1),
            default=1,
            help="comparisons per list in fine-tuning: lists of k+1 reviews, best first",
        )
    group.add_argument("--epochs-t", type=at_least(0), default=study.epochs_t, metavar="N", help="training epochs")
    group.add_argument("--epochs-f", type=at_least(0), default=study.epochs_f, metavar="N", help="fine-tuning epochs")


def add_own_arguments(parser: argparse.ArgumentParser, study: Study, one_run: bool) -> None:
    """Arguments that the original does not have."""
    group = parser.add_argument_group("beside them")
    several: dict[str, Any] = {} if one_run else {"nargs": "+"}
    if one_run:
        group.add_argument("--seed", type=at_least(0), default=SEEDS[0], metavar="N", help="seed of all randomness")
    else:
        group.add_argument(
            "--seeds", type=at_least(0), nargs="+", default=SEEDS, metavar="N", help="seeds of all randomness"
        )
        group.add_argument(
            "--dask", metavar="ADDRESS", help="run on the Dask cluster at this address, or on a 'local' one"
        )
    group.add_argument("--lr-f", type=positive, default=study.lr_f, metavar="RATE", help="fine-tuning learning rate")
    group.add_argument(
        "--batch-f", type=at_least(1), default=study.batch_f, metavar="N", help="comparisons per fine-tuning batch"
    )
    group.add_argument(
        "--output",
        type=Path,
        default=Path("results/"),
        metavar="FOLDER",
        help="the run's own folder is made in this one",
    )
    group.add_argument(
        "--loss", choices=LOSSES, default="study" if one_run else ["study"], help="preference loss", **several
    )
    group.add_argument(
        "--anchor",
        type=not_negative,
        default=0.0 if one_run else [0.0],
        metavar="WEIGHT",
        help="weight of the divergence from the model before fine-tuning",
        **several,
    )
    group.add_argument(
        "--noise", choices=NOISES, default="uniform" if one_run else ["uniform"], help="kind of noise", **several
    )
    group.add_argument(
        "--head",
        choices=HEADS,
        default="categorical",
        help="what the regressor gives: a distribution over ratings, or one number (squared error in training)",
    )
    group.add_argument(
        "--flip-rate",
        type=share,
        metavar="SHARE",
        help="share of reversed comparisons that --loss conservative and unbiased suppose; "
        "left out, what --noise and --ratio imply for the ratings",
    )
    group.add_argument(
        "--as-published",
        nargs="*",
        choices=DEPARTURES,
        action=AllIfNoneNamed,
        default=(),
        help="departures of the published code from its own description, to see what they do; none named: all",
    )
    group.add_argument("--text-column", default="Review", metavar="NAME", help="column that holds the texts")
    group.add_argument("--rating-column", default="Rating", metavar="NAME", help="column that holds the ratings")
    group.add_argument(
        "--pooling",
        choices=POOLINGS,
        default="model",
        help="how token vectors become one: as the checkpoint says, the [CLS] vector, or their mean",
    )
    group.add_argument("--shuffle", action="store_true", help="permute the rows first (seeded): for sorted files")
    group.add_argument(
        "--rerun",
        type=Path,
        metavar="FOLDER",
        help="make a results folder again, with the options it was made with, and tell what differs (exit status 1)",
    )
    group.add_argument("-h", "--help", action="help", help="show this and leave")


def check_remedies(
    parser: argparse.ArgumentParser, shared: Settings, losses: list[str], anchors: list[float], noises: list[str]
) -> None:
    """Refuse what does not go together: a scalar head has no distribution, half flips teach nothing."""
    needs_distribution = {"--loss study": "study" in losses, "--anchor": any(anchors), "--noise hard": "hard" in noises}
    for option, given in needs_distribution.items():
        if given and shared.head == "scalar":
            parser.error(f"{option} needs a distribution over ratings; give another one, or --head categorical")
    if "unbiased" in losses and shared.flip_rate is not None and shared.flip_rate >= 0.5:
        parser.error(f"--flip-rate {shared.flip_rate:g}: --loss unbiased needs one below 0.5")


def to_settings(study: Study, arguments: dict[str, Any]) -> Settings:
    return Settings(study=study.name, gap=study.gap, **{"k": 1, **arguments})


def share(text: str) -> float:
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is outside 0..1 (0.2 for 20 %)")
    return value


def not_negative(text: str) -> float:
    value = number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 on")
    return value


def positive(text: str) -> float:
    value = number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def at_least(least: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            several = "; separate several by spaces" if "," in text else ""
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number{several}") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return value

    return whole
