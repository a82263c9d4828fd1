"""What does real noise do? Preference accuracy on unseen topics, by the judgements and the loss that are learned from.

    python experiments/human_feedback.py --data data/arguments.csv --comparisons data/argument_comparisons.parquet \
        --output human_feedback --figure docs/images/human_feedback.png

Every seed puts other topics into the training, validation, fine-tuning and test part. The judgements of the fine-tuning
part are the feedback: the true orders (gold), one judgement of each pair, the true orders with as many reversed at
random (flipped), the majority, all. `without suspects` leaves out what the audit gives a probability above one half to
be wrong. KL weight 1 or adaptive, last of 30 epochs; intervals and p-values are of paired t-tests over the seeds.
"""

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from ceiling import train_on_both
from matplotlib import rc_context
from matplotlib.figure import Figure
from sweeps import (
    change_and_p,
    integer_from,
    make_parser,
    print_table,
    run_script,
    run_sweep,
    seed_options,
    weight_text,
)

from noisy_feedback.config import ADAPTIVE, PROTOCOLS, Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.data.preferences import Judgements
from noisy_feedback.data.splits import FINE_TUNING
from noisy_feedback.evaluation.statistics import paired_t_test
from noisy_feedback.experiment import fine_tune_model, train_model
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.files import atomic_write
from noisy_feedback.learning.training import single_threaded
from noisy_feedback.output import plots
from noisy_feedback.prepare import prepare

LABELS = ("gold", "one", "flipped", "majority", "all")
SETTINGS = {  # what the tables call a loss and its KL weight
    "bradley-terry": ("bradley-terry", "1"),
    "bradley-terry, adaptive": ("bradley-terry", ADAPTIVE),
    "holder-dpo, adaptive": ("holder-dpo", ADAPTIVE),
}
SUSPECTS = "bradley-terry without suspects"
CEILING = "trained on the ratings of both parts"  # instead of comparisons of the fine-tuning part
METRIC = "preference_accuracy"


def sweep(given: Namespace) -> pd.DataFrame:
    """One row per seed, labels and loss: preference accuracy on the test part, before and last."""
    folder = run_sweep(
        given.data,
        given.output,
        *("--comparisons", str(given.comparisons.resolve()), "--group-column", "Topic", "--shuffle"),
        *("--labels", *LABELS, "--loss", *map(":".join, SETTINGS.values()), *seed_options(given.seeds)),
        protocol="human",
    )
    runs = pd.read_csv(folder / "runs.csv")
    names = {setting: name for name, setting in SETTINGS.items()}
    runs["loss"] = [names.get((loss, weight_text(w))) for loss, w in zip(runs["loss"], runs["kl_weight"], strict=True)]
    runs = runs[runs["loss"].notna()]  # the folder may hold other settings, too
    return runs.rename(columns={f"before_{METRIC}": "before", f"last_{METRIC}": "last"})


def without_suspects(judgements: Judgements, feedback: Feedback, p_wrong: np.ndarray, part: np.ndarray) -> Judgements:
    """The judgements that are not suspected, and all of the other parts."""
    kept = feedback.subset(np.flatnonzero(p_wrong <= 0.5))
    assert kept.pairs is not None and kept.annotators is not None and judgements.correct is not None
    others = np.flatnonzero(part != FINE_TUNING)
    return replace(
        judgements,
        chosen=np.append(kept.lists[:, 0], judgements.chosen[others]),
        rejected=np.append(kept.lists[:, 1], judgements.rejected[others]),
        pairs=np.append(kept.pairs, judgements.pairs[others]),
        annotators=np.append(kept.annotators, judgements.annotators[others]),  # type: ignore[index]
        correct=np.append(1 - kept.flipped[:, 0], judgements.correct[others]),
    )


def cleaned_runs(given: Namespace) -> pd.DataFrame:
    """The same rows for bradley-terry on `one` and `all` judgements, without those that the audit suspects."""
    config = Config(
        protocol="human",
        **dict(PROTOCOLS["human"]["main.py"]) | {"path": given.data, "comparisons": given.comparisons},
        group_column="Topic",
        shuffle=True,
        output=given.output,
    )
    dataset = prepare([config])
    assert dataset.judgements is not None
    rows = []
    with single_threaded():
        for seed in range(1, given.seeds + 1):
            trained = train_model(replace(config, seed=seed), dataset)
            part = trained.splits.judgements
            assert part is not None
            scores = {"before": trained.before, "last": train_on_both(replace(config, seed=seed), dataset, trained)}
            rows.append(
                {"seed": seed, "labels": "gold", "loss": CEILING}
                | {stage: found.preference_accuracy for stage, found in scores.items()}
            )
            for labels in ("one", "all"):
                run = replace(config, seed=seed, labels=labels)
                tuned = fine_tune_model(replace(run, epochs_f=1), dataset, trained)
                assert tuned.feedback is not None and tuned.audit is not None
                cleaned: Dataset = replace(
                    dataset,
                    judgements=without_suspects(dataset.judgements, tuned.feedback, tuned.audit.p_wrong, part),
                )
                again = replace(trained, splits=cleaned.split(run))
                result = fine_tune_model(replace(run, labels="all"), cleaned, again).result
                assert result.last is not None
                rows.append(
                    {"seed": seed, "labels": labels, "loss": SUSPECTS, "comparisons": result.comparisons["count"]}
                    | {"before": result.before.preference_accuracy, "last": result.last.preference_accuracy}
                    | {"true_flip_rate": (result.audit or {})["true_flip_rate"]}
                )
    return pd.DataFrame(rows)


def difference(values: pd.Series, reference: pd.Series) -> pd.Series:
    """The paired difference over seeds."""
    return pd.Series(paired_t_test("difference", values.to_numpy(), reference.to_numpy()))


def report(runs: pd.DataFrame) -> None:
    """Print what is learned from, the change from before fine-tuning, and the paired differences that are asked for."""
    by = {key: rows.sort_values("seed") for key, rows in runs.groupby(["loss", "labels"])}
    first = by["bradley-terry", "gold"]
    print(f"before fine-tuning: preference accuracy {first['before'].mean():.3f}, {len(first)} seeds\n")
    rows = []
    for labels in LABELS:
        own = by["bradley-terry", labels]
        cells = [f"{own[name].mean():.3f}" for name in ("true_flip_rate", "estimated_flip_rate", "auroc", "precision")]
        rows.append([labels, f"{own['comparisons'].mean():,.0f}", *cells])
    print_table(["labels", "comparisons", "flip rate", "estimated", "AUROC of p_wrong", "precision"], rows)
    print("\nchange of preference accuracy by fine-tuning, last epoch [95 % interval]")
    rows = []
    for loss in (*SETTINGS, SUSPECTS, CEILING):
        found = [by.get((loss, labels)) for labels in LABELS]
        changes = ["" if f is None else change_and_p(difference(f["last"], f["before"]), "difference") for f in found]
        rows.append([loss, *changes])
    print_table(["loss", *LABELS], rows)
    print("\npaired differences of preference accuracy at the last epoch")
    pairs = [
        ("bradley-terry: one minus gold", "bradley-terry", "one", "bradley-terry", "gold"),
        ("bradley-terry: flipped minus gold", "bradley-terry", "flipped", "bradley-terry", "gold"),
        ("bradley-terry: one minus flipped", "bradley-terry", "one", "bradley-terry", "flipped"),
        ("bradley-terry: majority minus one", "bradley-terry", "majority", "bradley-terry", "one"),
        ("bradley-terry: all minus one", "bradley-terry", "all", "bradley-terry", "one"),
        *(
            (f"{labels}: {loss} minus bradley-terry", loss, labels, "bradley-terry", labels)
            for labels in ("one", "flipped", "all")
            for loss in (*list(SETTINGS)[1:], SUSPECTS)
            if (loss, labels) in by
        ),
    ]
    rows = [
        [name, change_and_p(difference(by[a, b]["last"], by[c, d]["last"]), "difference")] for name, a, b, c, d in pairs
    ]
    print_table(["difference", "mean [95 % interval], p"], rows)


def draw(runs: pd.DataFrame) -> Figure:
    """The change of preference accuracy by fine-tuning, per labels and loss: means with 95 % intervals."""
    losses = [loss for loss in (*SETTINGS, SUSPECTS) if loss in set(runs["loss"])]
    with rc_context(plots.STYLE):
        figure = Figure(figsize=(2 * plots.COLUMN, 2.6), layout="constrained")
        axes = figure.subplots()
        for number, loss in enumerate(losses):
            places, means, errors = [], [], []
            for place, labels in enumerate(LABELS):
                own = runs[(runs["loss"] == loss) & (runs["labels"] == labels)].sort_values("seed")
                if len(own):
                    found = difference(own["last"], own["before"])
                    places.append(place + 0.12 * (number - (len(losses) - 1) / 2))
                    means.append(found["difference"])
                    errors.append(found["difference_ci_high"] - found["difference"])
            style = plots.line_style(number) | {"linestyle": ""}
            axes.errorbar(places, means, yerr=errors, markersize=3.5, elinewidth=0.8, capsize=2, label=loss, **style)
        axes.axhline(0, color=plots.GREY, linewidth=0.8, linestyle=":")
        axes.set_xticks(range(len(LABELS)), LABELS)
        axes.set(ylabel="change of test\npreference accuracy")
        plots.add_legend(figure, *axes.get_legend_handles_labels(), columns=3)
        count = runs["seed"].nunique()
        plots.add_notes(figure, [f"arguments, unseen topics, last epoch; {count} seeds, 95 % intervals"])
    return figure


def work(given: Namespace) -> None:
    runs = pd.concat([sweep(given), cleaned_runs(given)], ignore_index=True)
    report(runs)
    with atomic_write(given.figure) as file:
        plots.save_figure(draw(runs), file)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="the arguments")
    parser.add_argument("--comparisons", type=Path, required=True, metavar="FILE", help="judgements of them")
    parser.add_argument("--seeds", type=integer_from(2), default=20, metavar="N", help="how many seeds, from 1 on")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for the sweep")
    parser.add_argument("--figure", type=Path, required=True, metavar="FILE", help="the figure to draw")
    sys.exit(run_script(parser, work))
