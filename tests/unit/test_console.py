"""The screen: what its lines say, and that its tables fit 80 columns."""

import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from noisy_feedback.config import LOSSES, NOISES, Config
from noisy_feedback.data.embeddings import Embeddings, EmbeddingsInfo
from noisy_feedback.data.reviews import Reviews
from noisy_feedback.data.splits import Splits
from noisy_feedback.evaluation.statistics import summarise
from noisy_feedback.feedback.audit import Audit
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.metrics import METRICS, STAGES
from noisy_feedback.output import console, tables
from noisy_feedback.output.sweep_tables import SweepTables
from tests.conftest import judgements_of
from tests.unit.test_records import distinct, metrics_of, result_of

RATIOS = (0.0, 0.2, 0.4, 0.6, 0.8)


def feedback_of(lists, k=2, **more):
    positions = np.arange(lists * (k + 1)).reshape(lists, k + 1)
    changes = {"changed": 1234, "total": 5000, "flipped": np.zeros((lists, k)), **more}
    return Feedback(positions, np.zeros_like(positions), **changes)


def results_of(seeds=(1, 2, 3), ratios=RATIOS, comparisons=lambda seed, ratio: 80, **more):
    """Results over seeds and ratios, of one setting, whose scores fall with the ratio."""
    runs = [Config("multiclass", k=2, seed=seed, ratio=ratio, **more) for seed in seeds for ratio in ratios]
    return [result_of(run, 0.7 - 0.1 * run.ratio - 0.013 * run.seed, comparisons(run.seed, run.ratio)) for run in runs]


def tables_of(results):
    runs, classes = tables.runs_table(results), len(results[0].before.confusion_matrix)
    return console.summary_tables(SweepTables(runs, runs, summarise(runs), classes), results)


def unwrapped(text):
    return " ".join(text.split())


def widest(text):
    return max(text.splitlines(), key=len)


# --- lines

REVIEWS = Reviews(
    "hotels.csv", Path(), "ab", [""] * 2000, np.array([0] * 1000 + [1] * 400 + [2] * 600), np.array([1, 3, 5])
)
SPLITS = Splits(train=np.arange(1100), validation=np.arange(2), fine_tuning=np.arange(3), test=np.arange(4))
BERT = EmbeddingsInfo("bert", "1", "cls", "library", "ab", "cpu")


def embeddings(truncated):
    return console.embeddings(Embeddings(torch.zeros(2, 384), BERT, truncated, 256), "computed now")


def judgements(parts, orders, texts):
    found = judgements_of(orders, annotators=np.zeros(len(orders), int), annotator_names=["al"], texts=texts)
    return console.judgements(found, replace(SPLITS, judgements=np.array(parts)))


def audit(flipped, p_wrong=(0.1, 0.2, 0.3, 0.4), rates=(0.0625, 0.05, 0.1), known=True):
    feedback = feedback_of(4, k=1, flipped=np.array(flipped, dtype=float)[:, None])
    return console.audit(feedback, Audit(np.array(p_wrong), *rates, known, None))


SCREEN = """\
reviews    2,000 from hotels.csv (1: 1,000, 3: 400, 5: 600)
dropped    1 empty, 2,345 duplicates
parts      1,100 training, 2 validation, 3 fine-tuning, 4 test
embeddings 384 dimensions from bert, computed now
           1,200 texts cut at the encoder's limit of 256 tokens, on the right (--truncate)
noise      1 of 1 comparison reversed (ratio 0, reversed)
feedback   1 human comparison (majority), from 2 texts
           1,200 pairs left out: as many judgements for either order
warning    only 1 comparison in a run, too few to learn from: the result is
           chance
audit      6.2% of the comparisons are wrong (estimate); in truth 50.0%
           95 % interval: 5.0% to 10.0%
           of the 2 most suspected 50.0% are wrong; AUROC of p_wrong 0.750
audit      6.2% of the comparisons are wrong (estimate)
           95 % interval: 5.0% to 10.0%
audit      how many comparisons are wrong cannot be told from these judgements
           95 % interval: 5.0% to 10.0%
audit      60.0% of the comparisons are wrong (estimate); in truth 0.0%
           95 % interval: 5.0% to 10.0%
warning    more than half are wrong: are chosen and rejected exchanged?
judgements 3 of 1 pair by 1 annotator from judged.csv
           2 fine-tuning; 1 left out: texts in two parts, or in training
           1 text not among the reviews: part of fine-tuning
warning    no comparison in the validation part: ratings choose the best epoch
warning    no comparison in the test part: there is no preference accuracy
"""  # then the summary


def test_lines_count_what_there_is_and_warn_of_what_is_missing():
    one = feedback_of(1, k=1, ties=1200, changed=1, total=1)
    text = [
        console.reviews(replace(REVIEWS, dropped={"empty": 1, "duplicates": 2345}), SPLITS),
        embeddings(1200),
        console.feedback(Config("human", labels="majority", noise="reversed"), one),
        # Of two wrong comparisons one is among the two most suspected; 3 of 4 pairs of wrong and right are in order.
        audit([0, 1, 1, 0], [0.6, 0.75, 0.5, 0.25]),
        audit([math.nan] * 4),
        audit([math.nan] * 4, known=False),
        audit([0] * 4, rates=(0.6, 0.05, 0.1)),
        judgements([2, 2, -1], [(0, 1), (0, 1), (0, 1)], ["a text"]),
    ]
    found, expected = "\n".join(text).splitlines(), SCREEN.splitlines()
    assert found[: len(expected)] == expected


# --- one run


def test_the_tables_of_a_run_hold_the_metrics_and_the_confusion_matrix_of_each_stage():
    result = distinct(result_of(Config("multiclass")))
    result = replace(result, training=[*result.training] * 2, fine_tuning=[*result.fine_tuning] * 5)
    text = console.run_tables(result, [3])
    assert "best epoch 2 of 4 in training, 1 of 5 in fine-tuning" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["most", "frequent", "before", "best", "epoch", "last", "epoch"] in lines
    for place, name in enumerate(METRICS.values()):
        (line,) = (line for line in text.splitlines() if line.startswith(f"{name} "))
        assert line.removeprefix(name).split() == [f"{stage + place / 4:.3f}" for stage in (1, 2, 3, 4)]
    for number, stage in enumerate(("before", "best epoch", "last epoch"), start=2):
        place = lines.index(["confusion", "matrix,", *stage.split()])
        assert lines[place + 1 : place + 3] == [["true", "\\", "predicted", "3"], ["3", str(number)]]
    assert "confusion matrix, most frequent" not in text


def test_a_metric_that_is_not_defined_is_a_dash_and_later_columns_and_preferences_that_nothing_has_are_left_out():
    text = console.run_tables(result_of(Config("multiclass", epochs_f=0)), [1, 2, 4])
    lines = [line.split() for line in text.splitlines()]
    place = lines.index(["true", "\\", "predicted", "1", "2", "4"])
    assert lines[place + 1 : place + 4] == [["1", "5", "1", "0"], ["2", "0", "6", "2"], ["4", "1", "0", "9"]]
    assert "best epoch 2 of 2 in training\n" in text
    assert "last epoch" not in text
    assert "preference accuracy" not in text
    (line,) = (line for line in text.splitlines() if line.startswith("quadratic weighted kappa"))
    assert line.split()[3:] == ["-", "0.600"]


# --- a sweep


@pytest.mark.parametrize("compared", [True, False])
def test_each_table_of_a_sweep_holds_its_own_metric(compared):
    results = [distinct(result_of(Config("multiclass", seed=seed, ratio=0.4))) for seed in (1, 2)]
    shown = ("preference_accuracy", "quadratic_weighted_kappa")
    if not compared:
        shown = ("macro_f1", "quadratic_weighted_kappa", "pairwise_accuracy")
        without = {stage: replace(getattr(results[0], stage), preference_accuracy=math.nan) for stage in STAGES}
        results = [replace(result, **without) for result in results]
    # The baseline is the mean over runs.
    results[1] = replace(results[1], majority=replace(results[1].majority, quadratic_weighted_kappa=5.25))
    _, *texts = tables_of(results).split("\ntest ")
    for text, metric in zip(texts, shown, strict=True):
        first, majority, _, before, _, row, *_ = text.splitlines()
        assert first.startswith(METRICS[metric])
        expected = [stage + list(METRICS).index(metric) / 4 for stage in (1, 2, 3, 4)]
        expected[0] = (expected[0] + 5.25) / 2 if metric == "quadratic_weighted_kappa" else expected[0]
        found = [majority.split()[-1], before.split()[2], *row.split()[2:4]]
        assert found == [f"{value:.3f}" for value in expected]


def test_differences_have_the_p_values_of_paired_tests():
    last = {0.0: (0.5, 0.52, 0.57), 0.4: (0.51, 0.49, 0.53), 0.8: (0.1, 0.1001, 0.1002)}  # by seed
    results = [
        replace(result, last=metrics_of(last[result.config.ratio][result.config.seed - 1]), before=metrics_of(0.6))
        for result in results_of(ratios=tuple(last))
    ]
    rows = {line.split()[0]: line for line in tables_of(results).splitlines() if line.startswith("    0.")}
    expected = [
        f"{np.subtract(last[0.4], other).mean():+.3f} p={stats.ttest_rel(last[0.4], other).pvalue:.3f}"
        for other in ((0.6,) * 3, last[0.0])
    ]
    assert rows["0.4"].split("]")[1].split() == " ".join(expected).split()
    assert "-0.500 p<0.001" in rows["0.8"]


def test_before_fine_tuning_is_that_of_the_seeds_of_all_places():
    runs = [run for run in results_of(ratios=(0.0, 0.4)) if run.config.seed == 1 or run.config.ratio]
    runs = [replace(run, before=metrics_of(0.2 * run.config.seed)) for run in runs]
    assert "before fine-tuning 0.400 [" in tables_of(runs)


def test_one_seed_has_no_interval_and_the_ratio_at_which_ratings_hold_no_information_is_noted():
    lines = tables_of(results_of(seeds=(1,), ratios=(0.0,))).splitlines()
    assert lines[:2] == [
        "the tables cover all 1 run in the folder: 1 seed",
        "note       one seed has no 95 % interval",
    ]
    for ratios, noted in (((0.0, 0.6, 0.8), True), ((0.0, 0.4), False)):  # three ratings: two thirds
        text = tables_of(results_of(ratios=ratios))
        assert ("note       uniform noise of ratio 0.667 leaves no information in the ratings" in text) == noted


def test_human_sweeps_have_the_estimated_and_the_true_flip_rates_by_labels_and_ratio():
    rates = {
        ("all", 0.0): (0.2, 0.25),
        ("all", 0.5): (0.3, 0.5),
        ("gold", 0.0): (0.1, math.nan),
        ("one", 0.0): (0.1, 0.5),
    }
    results = []
    for ((labels, ratio), (estimated, true)), seed in product(rates.items(), (1, 2)):
        result, shift = result_of(Config("human", labels=labels, ratio=ratio, seed=seed), compared=True), 0.05 * seed
        audit = {"known": labels != "one", "estimated_flip_rate": estimated + shift}
        audit["true_flip_rate"] = true + shift
        results.append(replace(result, audit={**result.audit, **audit}))
    lines = [line.split() for line in tables_of(results).splitlines()]
    start = lines.index(["flip", "rate", "of", "the", "comparisons:", "mean", "over", "seeds"])
    assert lines[start + 1 : start + 6] == [
        ["labels", "noise", "estimated", "true"],
        ["all", "0.000", "0.275", "0.325"],
        ["all", "0.500", "0.375", "0.575"],
        ["gold", "0.000", "0.175", "-"],
        ["one", "0.000", "-", "0.575"],  # the judgements do not tell
    ]
    assert "flip rate" not in tables_of(results_of())


def test_the_tables_of_a_sweep_fit_80_columns_whatever_the_names_also_with_negative_kappas():
    longest = {"loss": max(LOSSES, key=len), "noise": max(NOISES, key=len), "kl_weight": 0.001}
    results = []
    for more in (longest, {}):
        for result in results_of(ratios=(0.0, 0.8), comparisons=lambda seed, ratio: 123456 - int(1e5 * ratio), **more):
            results.append(replace(result, **{stage: metrics_of(-getattr(result, stage).accuracy) for stage in STAGES}))
    text = tables_of(results)
    assert "  symmetric-sigmoid, KL weight 0.001, redrawn-off-scale noise" in text
    assert "--lists 43456 makes them equal" in unwrapped(text)
    assert len(widest(text)) <= 80, widest(text)


def test_without_fine_tuning_there_are_no_rows_and_an_undefined_metric_is_a_dash():
    results = results_of(ratios=(0.0,), epochs_f=0)
    undefined = replace(metrics_of(0.5), quadratic_weighted_kappa=math.nan)
    text = tables_of([replace(result, before=undefined) for result in results])
    assert "  study\n  before fine-tuning 0.500 [0.500, 0.500]" in text
    assert "before fine-tuning - [-, -]" in text
    assert "last epoch" not in text
    assert "nan" not in text


# --- warnings of a sweep


def warning_of(results):
    text = unwrapped(tables_of(results))
    return text[text.index("warning ") :] if "warning " in text else None


def test_seeds_whose_model_before_fine_tuning_is_no_better_than_the_most_frequent_rating_are_counted():
    accuracies = {1: 0.39, 2: 0.4, 3: 0.41}  # the most frequent rating: 0.4
    results = [replace(run, before=metrics_of(accuracies[run.config.seed])) for run in results_of(ratios=(0.0, 0.4))]
    says = "the model before fine-tuning is no more accurate than always predicting the most frequent rating"
    assert warning_of(results).startswith(f"warning in 2 of 3 seeds {says} (--select macro_f1 chooses ")
    assert warning_of(results_of()) is None
    for number, warned in ((0, True), (2, True), (4, False)):
        assert (f"warning in 1 of 1 seed {says}" in unwrapped(console.run_tables(results[number], [1, 2, 4]))) == warned


def test_few_or_unequal_numbers_of_comparisons_are_warned_of():
    for least, warned in ((9, True), (10, False)):
        text = warning_of(results_of(comparisons=lambda seed, ratio, least=least: least if seed == 2 else 11))
        says = f"warning only {least} comparisons in a run, too few to learn from: the result is chance"
        assert text == (says if warned else None)
    assert warning_of(results_of(comparisons=lambda seed, ratio: 100 - 25 * ratio)) is None
    counts = {1: 500, 2: 600, 3: 700}  # a seed can have fewer than the mean over seeds
    text = warning_of(results_of(comparisons=lambda seed, ratio: counts[seed] if ratio == 0.8 else 1000))
    assert text.startswith("warning noise ratios differ in the number of comparisons, 600 to 1,000: ")
    assert text.endswith("; --lists 500 makes them equal")
    others = results_of(ratios=(0.0,)) + results_of(ratios=(0.0,), labels="one", comparisons=lambda *_: 20)
    assert warning_of(others) is None  # other labels are no other noise ratio
