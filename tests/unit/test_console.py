"""The screen: what its lines say, and that its tables fit 80 columns."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from noisy_feedback.config import LOSSES, NOISES, Config
from noisy_feedback.data.embeddings import Embeddings, EmbeddingsInfo
from noisy_feedback.data.preferences import Judgements
from noisy_feedback.data.reviews import SAMPLE_FILE, Reviews, Splits, split_dataset
from noisy_feedback.evaluation.metrics import METRICS
from noisy_feedback.evaluation.statistics import summarise
from noisy_feedback.feedback.audit import Audit
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.output import console, records
from noisy_feedback.output.comparisons import AuditedFeedback
from tests.unit.test_records import distinct, metrics_of, result_of

RATIOS = (0.0, 0.2, 0.4, 0.6, 0.8)
RATING_METRICS = [name for field, name in METRICS.items() if field != "preference_accuracy"]


@pytest.fixture(autouse=True)
def _quick_intervals(monkeypatch):
    monkeypatch.setattr("noisy_feedback.evaluation.statistics.RESAMPLES", 99)


def reviews_of(ratings, **more):
    ratings = np.array(ratings)
    texts = [f"review {row}" for row in range(len(ratings))]
    return Reviews("hotels.csv", Path("data"), "ab", texts, ratings, np.array([1, 3, 5]), **more)


def feedback_of(lists, k=2):
    positions = np.arange(lists * (k + 1)).reshape(lists, k + 1)
    return Feedback(positions, np.zeros_like(positions), changed=1234, total=5000, wrong=np.zeros((lists, k)))


def results_of(seeds=(1, 2, 3), ratios=RATIOS, comparisons=lambda seed, ratio: 80, **more):
    """Results over seeds and ratios, of one combination, whose scores fall with the ratio."""
    runs = [Config("multiclass", k=2, seed=seed, ratio=ratio, **more) for seed in seeds for ratio in ratios]
    return [result_of(run, 0.7 - 0.1 * run.ratio - 0.013 * run.seed, comparisons(run.seed, run.ratio)) for run in runs]


def tables_of(results):
    return console.summary_tables(summarise(pd.DataFrame(records.runs_rows(results))), results)


def widest(text):
    return max(text.splitlines(), key=len)


# --- lines


def test_of_a_folder_the_file_that_is_read_is_named():
    assert console.file_choice(Path("data"), Path("data/hotels.csv")) == "data       data/hotels.csv"


def test_the_sample_is_not_taken_for_real_reviews():
    line = console.file_choice(Path("data"), Path("data") / SAMPLE_FILE)
    assert line.startswith("data has no TripAdvisor file: running on the bundled sample of made-up reviews")


def test_reviews_are_counted_by_rating_and_by_part():
    found = reviews_of([0] * 1000 + [1] * 400 + [2] * 600)
    assert console.reviews(found, split_dataset(2000)).splitlines() == [
        "reviews    2,000 from hotels.csv (1: 1,000, 3: 400, 5: 600)",
        "parts      800 training, 200 validation, 800 fine-tuning, 200 test",
    ]


def test_parts_of_different_sizes_have_their_own_names():
    splits = Splits(*(np.arange(size) for size in (1, 2, 3, 4)))
    sizes = {"train": "training", "validation": "validation", "fine_tuning": "fine-tuning", "test": "test"}
    expected = ", ".join(f"{len(getattr(splits, part))} {name}" for part, name in sizes.items())
    assert console.reviews(reviews_of([0] * 10), splits).splitlines()[1] == f"parts      {expected}"


def test_dropped_reviews_are_counted():
    found = reviews_of([0, 1] * 10, dropped={"empty": 1, "duplicates": 2345})
    assert "dropped    1 empty, 2,345 duplicates" in console.reviews(found, split_dataset(20)).splitlines()


@pytest.mark.parametrize(("truncated", "lines"), [(0, 1), (1200, 2)])
def test_reviews_that_were_cut_are_counted(truncated, lines):
    info = EmbeddingsInfo("bert", "1", "cls", "library", "ab", "cpu")
    text = console.embeddings(Embeddings(torch.zeros(2, 384), info, truncated, 256), "computed now")
    assert text.startswith("embeddings 384 dimensions from bert, computed now")
    assert len(text.splitlines()) == lines
    assert ("1,200 reviews were cut at the encoder's limit of 256 tokens" in text) == (lines == 2)


def test_noise_and_comparisons_are_counted():
    config = Config("multiclass", k=2, ratio=0.25)
    assert console.feedback(config, feedback_of(1000)).splitlines() == [
        "noise      1,234 of 5,000 fine-tuning ratings changed (ratio 0.25)",
        "feedback   1,000 lists of 3 different ratings, from 3,000 reviews",
    ]


def test_reversed_comparisons_are_said_to_be_that():
    config = Config("binary", noise="reversed", ratio=0.25)
    first, second = console.feedback(config, feedback_of(1000, k=1)).splitlines()
    assert first == "noise      1,234 of 5,000 comparisons reversed (ratio 0.25, reversed)"
    assert second == "feedback   1,000 pairs 3 stars apart, from 2,000 reviews"


@pytest.mark.parametrize(("lists", "warned"), [(9, True), (10, False)])
def test_too_few_comparisons_are_warned_of(lists, warned):
    text = console.feedback(Config("multiclass", k=2), feedback_of(lists))
    assert (f"warning    {lists} comparisons are too few to learn from" in text) == warned


# --- comparisons that people made


def judged(pairs, annotators=None):
    """Judgements of pairs of texts, of which only the number counts."""
    texts, names = np.array(pairs), sorted({*(annotators or [])})
    annotators = annotators and np.array([names.index(name) for name in annotators])
    return Judgements("judged.csv", Path(), "", [], texts, texts + 1, texts, annotators, names, None)


def test_judgements_are_counted_by_pair_annotator_and_part():
    parts = [2] * 1100 + [1] * 2 + [3] * 3 + [-1] * 4
    found = judged(list(range(500)) * 2 + [0] * 109, ["al", "bo", "zoe"] + ["al"] * 1106)
    assert console.judgements(found, np.array(parts)).splitlines() == [
        "judgements 1,109 of 500 pairs by 3 annotators from judged.csv",
        "           1,100 fine-tuning, 2 validation, 3 test; 4 left out: texts in two parts, or in training",
    ]


def test_judgements_by_nobody_name_no_annotators():
    first, *_ = console.judgements(judged([0, 1]), np.array([2, 2])).splitlines()
    assert first == "judgements 2 of 2 pairs from judged.csv"


def test_a_part_without_comparisons_is_warned_of():
    warnings = console.judgements(judged([0, 1]), np.array([2, 1])).splitlines()[2:]
    assert warnings == ["warning    no comparison in the test part: there is no preference accuracy"]
    assert console.judgements(judged([0, 1, 2]), np.array([2, 1, 3])).count("warning") == 0


def test_texts_that_are_in_no_review_are_counted():
    found = replace(judged([0, 1, 2]), texts=["a text", "another"])
    third = console.judgements(found, np.array([2, 1, 3])).splitlines()[2]
    assert third.endswith("2 texts of the comparisons are in no review, word for word: they count as fine-tuning")


def test_comparisons_of_people_are_described_by_their_labels():
    config = Config("human", labels="majority", ratio=0.25, noise="reversed")
    first, second = console.feedback(config, feedback_of(1000, k=1)).splitlines()
    assert first == "noise      1,234 of 5,000 comparisons reversed (ratio 0.25, reversed)"
    assert second.startswith("feedback   1,000 comparisons that people made (majority), from 2,000 ")


def test_ties_that_are_left_out_are_counted():
    text = console.feedback(Config("human"), replace(feedback_of(50, k=1), ties=1200))
    assert text.splitlines()[2] == "           1,200 pairs left out: as many judgements for either order"


def audited(wrong, p_wrong=(0.125, 0.75, 0.5, 0.25)):
    feedback = replace(feedback_of(4, k=1), wrong=np.array(wrong, dtype=float)[:, None])
    return AuditedFeedback(feedback, Audit(np.array(p_wrong), 0.0625, None), np.zeros((8, 3)))


def test_the_audit_says_what_it_estimates_what_is_true_and_how_well_it_finds_it():
    assert console.audit(audited([0, 1, 0, 0])).splitlines() == [
        "audit      6.2% of the comparisons are wrong (estimate); in truth 25.0%",
        "           of the 1 most suspected 100.0% are wrong; AUROC of p_wrong 1.000",
    ]


def test_the_audits_precision_and_auroc_are_told_apart():
    """Of two wrong comparisons one is among the two most suspected; 3 of 4 pairs of wrong and right are in order."""
    first, second = console.audit(audited([0, 1, 1, 0], p_wrong=(0.6, 0.75, 0.5, 0.25))).splitlines()
    assert first.endswith("in truth 50.0%")
    assert second == "           of the 2 most suspected 50.0% are wrong; AUROC of p_wrong 0.750"


def test_where_nothing_is_wrong_the_audit_has_nothing_to_find():
    (line,) = console.audit(audited([0, 0, 0, 0])).splitlines()
    assert line == "audit      6.2% of the comparisons are wrong (estimate); in truth 0.0%"


def test_where_the_truth_is_not_known_the_audit_says_its_estimate_alone():
    (line,) = console.audit(audited([math.nan] * 4)).splitlines()
    assert line == "audit      6.2% of the comparisons are wrong (estimate)"


def test_the_tables_of_a_run_hold_the_preference_accuracy_where_people_compared():
    with_people, without = (
        console.run_tables(result_of(Config("human"), compared=compared), [1, 2, 4]) for compared in (True, False)
    )
    (line,) = (line for line in with_people.splitlines() if line.startswith("preference accuracy"))
    assert line.split()[2:] == ["0.400", "0.600", "0.700", "0.500"]
    assert "preference accuracy" not in without


def test_a_sweep_of_comparisons_by_people_shows_the_preference_accuracy_first():
    results = [result_of(Config("human", seed=seed), compared=True) for seed in (1, 2)]
    titles = [line for line in tables_of(results).splitlines() if line.startswith("test ")]
    assert [title.partition(":")[0] for title in titles] == [
        "test preference accuracy",
        "test quadratic weighted kappa",
    ]


# --- one run


def test_the_tables_of_a_run_hold_every_metric_of_ratings_of_every_stage_beside_the_most_frequent_rating():
    text = console.run_tables(result_of(Config("multiclass")), [1, 2, 4])
    lines = text.splitlines()
    assert "best epoch 2 of 2 in training, 1 of 1 in fine-tuning" in lines
    assert "most frequent       before   best epoch   last epoch" in text
    for name in RATING_METRICS:
        (line,) = (line for line in lines if line.startswith(f"{name:27}"))
        expected = "-" if name == "quadratic weighted kappa" else "0.400"
        assert line.removeprefix(name).split() == [expected, "0.600", "0.700", "0.500"]


def test_the_tables_of_a_run_hold_the_metrics_and_the_confusion_matrix_of_each_stage():
    result = distinct(result_of(Config("multiclass")))
    result = replace(result, training=[*result.training] * 2, fine_tuning=[*result.fine_tuning] * 5)
    text = console.run_tables(result, [3])
    assert "best epoch 2 of 4 in training, 1 of 5 in fine-tuning" in text
    for place, name in enumerate(METRICS.values()):
        (line,) = (line for line in text.splitlines() if line.startswith(f"{name} "))
        assert line.removeprefix(name).split() == [f"{stage + place / 4:.3f}" for stage in (1, 2, 3, 4)]
    for number, stage in enumerate(("before", "best epoch", "last epoch"), start=2):
        assert f"confusion matrix, {stage}\ntrue \\ predicted  3\n               3  {number}" in text


def test_confusion_matrices_have_the_stars_as_names():
    text = console.run_tables(result_of(Config("multiclass")), [1, 2, 4])
    assert text.count("confusion matrix, ") == 3
    assert "confusion matrix, most frequent" not in text
    assert "true \\ predicted  1  2  4\n               1  5  1  0\n" in text


def test_a_run_that_was_not_fine_tuned_has_no_later_columns():
    text = console.run_tables(result_of(Config("multiclass", epochs_f=0)), [1, 2, 4])
    assert "best epoch 2 of 2 in training\n" in text
    assert "last epoch" not in text


@pytest.mark.parametrize(("accuracy", "warned"), [(0.3, True), (0.4, True), (0.41, False)])
def test_a_model_no_better_than_the_most_frequent_rating_is_warned_of(accuracy, warned):
    result = replace(result_of(Config("multiclass")), before=metrics_of(accuracy))
    text = " ".join(console.run_tables(result, [1, 2, 4]).split())
    assert ("no more accurate than always predicting the most frequent rating" in text) == warned


def test_the_tables_of_a_run_fit_80_columns():
    text = console.run_tables(replace(result_of(Config("multiclass")), before=metrics_of(0.1)), [1, 2, 4])
    assert len(widest(text)) <= 80, widest(text)


# --- a sweep


def test_the_tables_of_a_sweep_say_how_many_runs_and_seeds_they_cover():
    assert tables_of(results_of()).startswith("the tables cover all 15 runs in the folder: 3 seeds\n")


def test_a_row_holds_the_ratio_the_comparisons_the_means_and_the_differences():
    lines = tables_of(results_of(ratios=(0.0, 0.4))).splitlines()
    start = lines.index("test macro F1: mean over seeds [95 % interval]; p: paired t-test")
    most_frequent, title, header, noise0, noise4 = lines[start + 1 : start + 6]
    assert most_frequent == "  most frequent rating 0.400"
    assert title == "  study; before fine-tuning 0.674 [0.661, 0.687]"
    assert header.split() == ["noise", "lists", "best", "last", "epoch", "vs", "before", "vs", "noise", "0"]
    assert noise0.split()[:4] == ["0", "80", "0.774", "0.574"]
    assert noise4.split()[:4] == ["0.4", "80", "0.734", "0.534"]
    assert noise0.endswith(" -0.100")
    assert noise4.split()[-1] == "-0.040"


def test_each_table_of_a_sweep_holds_its_own_metric():
    results = [distinct(result_of(Config("human", seed=seed, ratio=0.4))) for seed in (1, 2)]
    _, *tables = tables_of(results).split("\ntest ")
    for table, metric in zip(tables, ("preference_accuracy", "quadratic_weighted_kappa"), strict=True):
        first, majority, before, _, row, *_ = table.splitlines()
        assert first.startswith(METRICS[metric])
        expected = [f"{stage + list(METRICS).index(metric) / 4:.3f}" for stage in (1, 2, 3, 4)]
        assert [majority.split()[-1], before.split()[3], *row.split()[2:4]] == expected


def test_the_baseline_of_a_sweep_is_the_mean_over_its_runs():
    values = zip(results_of(ratios=(0.0,)), (0.1, 0.2, 0.6), strict=True)
    text = tables_of([replace(result, majority=metrics_of(value)) for result, value in values])
    assert text.count("most frequent rating 0.300") == 2


def test_a_difference_that_varies_has_its_p_value():
    last = {0.0: (0.5, 0.52, 0.57), 0.4: (0.51, 0.49, 0.53)}  # by seed
    results = [
        replace(result, last=metrics_of(last[result.config.ratio][result.config.seed - 1]))
        for result in results_of(ratios=tuple(last))
    ]
    before = [result.before.macro_f1 for result in results if result.config.ratio == 0.4]
    lines = tables_of(results).splitlines()
    row = next(line for line in lines if line.startswith("    0.4"))
    expected = [
        f"{np.subtract(last[0.4], other).mean():+.3f} p={stats.ttest_rel(last[0.4], other).pvalue:.3f}"
        for other in (before, last[0.0])
    ]
    assert row.split("]")[1].split() == " ".join(expected).split()


def test_a_small_p_value_is_below_0_001():
    row = pd.Series({"vs_before": -0.1, "vs_before_p": 0.0009, "vs_noise0": 0.1, "vs_noise0_p": math.nan})
    assert [console.difference(row, name) for name in ("vs_before", "vs_noise0")] == ["-0.100 p<0.001", "+0.100 "]


@pytest.mark.parametrize(
    ("seeds", "note"),
    [
        (1, "note       one seed has no 95 % interval"),
        (3, "note       95 % intervals of 3 seeds cover the mean in 75 % of cases"),
        (5, None),
    ],
)
def test_intervals_of_few_seeds_come_with_a_note_on_their_coverage(seeds, note):
    lines = tables_of(results_of(seeds=range(seeds), ratios=(0.0,))).splitlines()
    assert [line for line in lines if line.startswith("note")] == ([note] if note else [])


def test_the_note_is_of_the_row_with_the_fewest_seeds():
    """Of sweeps that were extended, one combination can have five seeds, another three."""
    results = results_of(seeds=range(5)) + results_of(seeds=range(3), loss="hinge")
    assert "note       95 % intervals of 3 seeds cover the mean in 75 % of cases" in tables_of(results)


@pytest.mark.parametrize("sign", [1, -1], ids=["positive", "negative, as a kappa can be"])
def test_the_tables_of_a_sweep_fit_80_columns_whatever_the_names(sign):
    longest = {"loss": max(LOSSES, key=len), "noise": max(NOISES, key=len), "kl_weight": 0.001}
    results = []
    for more in (longest, {}):
        for result in results_of(ratios=(0.0, 0.8), comparisons=lambda seed, ratio: 123456 - int(1e5 * ratio), **more):
            stages = {name: metrics_of(sign * metrics.accuracy) for name, metrics in result.stages().items()}
            results.append(replace(result, **stages))
    text = tables_of(results)
    assert "  symmetric-sigmoid, KL weight 0.001, redrawn-off-scale noise" in text
    assert "--lists 43456 makes them equal" in " ".join(text.split())
    assert len(widest(text)) <= 80, widest(text)


def test_a_metric_that_is_not_defined_is_a_dash():
    results = results_of(ratios=(0.0,))
    undefined = replace(metrics_of(0.5), quadratic_weighted_kappa=math.nan)
    text = tables_of([replace(result, before=undefined, best=undefined, last=undefined) for result in results])
    assert "before fine-tuning - [-, -]" in text
    assert "nan" not in text


def test_without_fine_tuning_there_are_no_rows():
    text = tables_of(results_of(ratios=(0.0,), epochs_f=0))
    assert "  study; before fine-tuning 0.6" in text
    assert "last epoch" not in text


# --- unequal numbers of comparisons


def warning_of(comparisons):
    text = " ".join(tables_of(results_of(comparisons=comparisons)).split())
    return text[text.index("warning ") :] if "warning " in text else None


def test_numbers_of_comparisons_that_differ_little_need_no_line():
    assert warning_of(lambda seed, ratio: 100 - 25 * ratio) is None


def test_numbers_of_comparisons_that_differ_much_are_reported_with_the_option_that_makes_them_equal():
    text = warning_of(lambda seed, ratio: int(1000 - 500 * ratio))
    assert text.startswith("warning noise ratios differ in the number of comparisons, 600 to 1,000: ")
    assert text.endswith("; --lists 600 makes them equal")


def test_every_run_has_as_many_comparisons_as_lists_asks_for():
    """A seed can have fewer than the mean over seeds."""
    counts = {1: 500, 2: 600, 3: 700}
    text = warning_of(lambda seed, ratio: counts[seed] if ratio == 0.8 else 1000)
    assert "600 to 1,000" in text
    assert text.endswith("; --lists 500 makes them equal")


def test_bars_close_and_count_what_they_are_given(capsys):
    chunks = [np.arange(3), np.arange(2)]
    assert list(console.embedding_bar(chunks)) == chunks
    with console.epoch_bar("training", 2) as progress:
        assert progress() is None
        progress()
    error = capsys.readouterr().err
    assert "embedding" in error
    assert "training" in error


def test_the_numbers_of_a_table_are_right_aligned():
    columns = {"before": SimpleNamespace(**dict.fromkeys(METRICS, 12.5)), "last epoch": metrics_of(0.5)}
    lengths = {len(line) for line in console.metrics_table(columns).splitlines()}
    assert lengths == {27 + 2 * 13}


@pytest.mark.parametrize(("least", "warned"), [(9, True), (10, False)])
def test_a_sweep_with_too_few_comparisons_in_a_run_says_so(least, warned):
    text = tables_of(results_of(comparisons=lambda seed, ratio: least if seed == 2 else 80))
    assert (f"a run has only {least} comparisons" in " ".join(text.split())) == warned


def test_other_labels_are_no_other_noise_ratio():
    summary = pd.DataFrame(
        {
            **{"labels": ["all", "one"], "loss": "hinge", "kl_weight": 1.0, "noise": "reversed"},
            **{"ratio": 0.0, "comparisons": [5000.0, 1000.0]},
        }
    )
    assert console.unequal_comparisons(summary, []) == []
