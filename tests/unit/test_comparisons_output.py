"""What is written about comparisons: every text, number and name exactly, and nothing for what is not known."""

import csv
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from noisy_feedback.data.preferences import read_judgements
from noisy_feedback.errors import InputError
from noisy_feedback.feedback.audit import Annotators, Audit
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.output.comparisons import (
    AuditedFeedback,
    annotator_rows,
    check_export,
    export_comparisons,
    feedback_rows,
    save_comparisons,
)

# Distributions over three classes whose expected classes are 0, 1/2, 1 and 2; and of a model that is fine-tuned.
BEFORE = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.25, 0.5, 0.25], [0, 0, 1]])
AFTER = BEFORE[::-1]  # 2, 1, 1/2, 0
NAMES = ["al", "bo", "nobody", "zoe"]
SCALE = np.array([1, 2, 10])
TEXTS = ['a "good" stay', "two\r\nlines, bad", "été, 漢字 🛏", " spaces "]


def judged(**changes):
    """Four judgements by three of four annotators; of the last one the truth is not known."""
    feedback = Feedback(
        lists=np.array([[3, 0], [0, 1], [2, 1], [1, 2]]),
        ratings=np.array([[2, 0], [0, 1], [-1, 1], [1, -1]]),
        changed=0,
        total=4,
        wrong=np.array([[0.0], [1.0], [1.0], [np.nan]]),
        pairs=np.array([0, 2, 1, 1]),
        annotators=np.array([3, 0, 3, 1]),
    )
    annotators = Annotators(
        judgements=np.array([1, 1, 0, 2]),
        reliability=np.array([0.6, 0.7, 0.8, 0.9]),
        low=np.array([0.5, 0.6, 0.7, 0.8]),
        high=np.array([0.7, 0.8, 0.9, 1.0]),
    )
    audit = Audit(np.array([0.125, 0.75, 0.5, 0.25]), 0.4, annotators)
    return replace(AuditedFeedback(feedback, audit, BEFORE, AFTER), **changes)


def simulated():
    """Two lists of three reviews, without annotators."""
    lists = np.array([[3, 2, 0], [2, 1, 0]])
    wrong = np.array([[0.0, np.nan], [1.0, 0.0]])
    feedback = Feedback(lists, np.array([[2, 1, 0], [2, 1, 0]]), 1, 2, wrong)
    return AuditedFeedback(feedback, Audit(np.array([0.1, 0.2, 0.3, 0.4]), 0.25, None), BEFORE, AFTER)


def read_csv(file):
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.reader(lines))


# --- feedback.csv


def test_every_judgement_is_a_row_with_its_margins_before_and_after():
    assert list(feedback_rows(judged(), NAMES)) == [
        (3, 0, 0, "zoe", 2.0, -2.0, 0.125, 0),
        (0, 1, 2, "al", -0.5, 1.0, 0.75, 1),
        (2, 1, 1, "zoe", 0.5, -0.5, 0.5, 1),
        (1, 2, 1, "bo", -0.5, 0.5, 0.25, None),
    ]


def test_neighbours_in_a_list_are_rows_in_its_order_and_have_neither_pair_nor_annotator():
    assert list(feedback_rows(simulated(), [])) == [
        (3, 2, None, None, 1.0, -0.5, 0.1, 0),
        (2, 0, None, None, 1.0, -1.5, 0.2, None),
        (2, 1, None, None, 0.5, -0.5, 0.3, 1),
        (1, 0, None, None, 0.5, -1.0, 0.4, 0),
    ]


def test_the_margin_of_a_scalar_head_is_the_difference_of_its_outputs():
    scalar = np.array([[-1.0], [0.5], [2.0], [7.0]])
    found = judged(output_before=scalar, output_after=10 * scalar)
    assert [row[4:6] for row in feedback_rows(found, NAMES)] == [(8, 80), (-1.5, -15), (1.5, 15), (-1.5, -15)]


def test_before_fine_tuning_there_is_no_later_margin():
    rows = list(feedback_rows(judged(output_after=None), NAMES))
    assert np.isnan([row[5] for row in rows]).all()
    assert [row[4] for row in rows] == [2.0, -0.5, 0.5, -0.5]


def test_feedback_csv_has_a_name_for_every_column_and_an_empty_cell_for_what_is_not_known(tmp_path):
    save_comparisons(tmp_path, judged(), NAMES)
    header, first, *_, last = read_csv(tmp_path / "feedback.csv")
    assert ",".join(header) == "better,worse,pair,annotator,margin_before,margin_after,p_wrong,wrong"
    assert first == ["3", "0", "0", "zoe", "2.0", "-2.0", "0.125", "0"]
    assert last == ["1", "2", "1", "bo", "-0.5", "0.5", "0.25", ""]


# --- annotators.csv


def test_every_annotator_who_judged_is_a_row_with_the_share_of_judgements_that_are_right():
    assert list(annotator_rows(judged(), NAMES)) == [
        ("al", 1, 0.6, 0.5, 0.7, 0.0),
        ("bo", 1, 0.7, 0.6, 0.8, None),  # nobody knows
        ("zoe", 2, 0.9, 0.8, 1.0, 0.5),
    ]


def test_annotators_csv_has_a_name_for_every_column(tmp_path):
    save_comparisons(tmp_path, judged(), NAMES)
    header, first, second, _ = read_csv(tmp_path / "annotators.csv")
    assert ",".join(header) == "annotator,judgements,reliability,ci_low,ci_high,true_reliability"
    assert first == ["al", "1", "0.6", "0.5", "0.7", "0.0"]
    assert second[-1] == ""


def test_without_annotators_there_is_no_file_of_them(tmp_path):
    save_comparisons(tmp_path, simulated(), [])
    assert [file.name for file in tmp_path.iterdir()] == ["feedback.csv"]


# --- scores


def test_scores_compare_what_is_estimated_with_what_is_known():
    # Of the three known ones, 0.75 and 0.5 are wrong and 0.125 is right.
    assert judged().scores() == {"estimated_flip_rate": 0.4, "flip_rate": 2 / 3, "auroc": 1.0, "precision": 1.0}


def test_scores_are_worse_where_a_right_judgement_looks_wrong():
    audit = replace(judged().audit, p_wrong=np.array([0.6, 0.75, 0.5, 0.25]))
    scores = judged(audit=audit).scores()
    assert (scores["auroc"], scores["precision"]) == (0.5, 0.5)


def test_where_no_truth_is_known_nothing_is_but_the_estimate():
    found = judged()
    unknown = replace(found, feedback=replace(found.feedback, wrong=np.full((4, 1), np.nan)))
    assert unknown.scores() == {"estimated_flip_rate": 0.4, "flip_rate": None, "auroc": None, "precision": None}


def test_where_nothing_is_wrong_there_is_nothing_to_find():
    found = judged()
    right = replace(found, feedback=replace(found.feedback, wrong=np.zeros((4, 1))))
    assert right.scores() == {"estimated_flip_rate": 0.4, "flip_rate": 0.0, "auroc": None, "precision": None}


# --- the preference data set


def export(folder, audited, suffix, names=NAMES):
    """The exported file, read by pandas; missing values are None."""
    dataset = SimpleNamespace(
        texts=TEXTS, scale=SCALE, judgements=SimpleNamespace(annotator_names=names) if names else None
    )
    file = folder / f"comparisons{suffix}"
    export_comparisons(file, audited, dataset)
    table = pd.read_parquet(file) if suffix == ".parquet" else pd.read_json(file, lines=True, dtype=False)
    return table.astype(object).where(table.notna(), None)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_an_export_has_the_texts_the_stars_and_what_is_known(tmp_path, suffix):
    table = export(tmp_path, judged(), suffix)
    assert {name: table[name].tolist() for name in table} == {
        "chosen": [TEXTS[3], TEXTS[0], TEXTS[2], TEXTS[1]],
        "rejected": [TEXTS[0], TEXTS[1], TEXTS[1], TEXTS[2]],
        "chosen_rating": [10, 1, None, 2],
        "rejected_rating": [1, 2, 2, None],
        "p_wrong": [0.125, 0.75, 0.5, 0.25],
        "wrong": [False, True, True, None],
        "pair": [0, 2, 1, 1],
        "annotator": ["zoe", "al", "zoe", "bo"],
    }


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_lists_are_exported_as_pairs_of_neighbours_without_annotator(tmp_path, suffix):
    table = export(tmp_path, simulated(), suffix, names=None)
    assert list(table) == ["chosen", "rejected", "chosen_rating", "rejected_rating", "p_wrong", "wrong", "pair"]
    assert table["pair"].tolist() == [0, 1, 2, 3]
    assert table["chosen"].tolist() == [TEXTS[3], TEXTS[2], TEXTS[2], TEXTS[1]]
    assert table["rejected"].tolist() == [TEXTS[2], TEXTS[0], TEXTS[1], TEXTS[0]]
    assert table["chosen_rating"].tolist() == [10, 2, 10, 2]
    assert table["rejected_rating"].tolist() == [2, 1, 2, 1]


def test_what_is_not_known_is_null_in_json_and_a_rating_a_whole_number(tmp_path):
    export(tmp_path, judged(), ".jsonl")
    *_, last = (tmp_path / "comparisons.jsonl").read_text(encoding="utf-8").splitlines()
    assert '"chosen_rating": 2, "rejected_rating": null' in last
    assert '"wrong": null' in last


def test_types_in_parquet_are_whole_numbers_and_booleans(tmp_path):
    dataset = SimpleNamespace(texts=TEXTS, scale=SCALE, judgements=SimpleNamespace(annotator_names=NAMES))
    export_comparisons(tmp_path / "c.parquet", judged(), dataset)
    table = pd.read_parquet(tmp_path / "c.parquet", dtype_backend="numpy_nullable")
    assert [str(table[name].dtype) for name in ("chosen_rating", "wrong", "pair")] == ["Int64", "boolean", "Int64"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_an_export_can_be_read_as_judgements_again(tmp_path, suffix):
    export(tmp_path, judged(), suffix)
    found = read_judgements(tmp_path / f"comparisons{suffix}", TEXTS)
    assert found.chosen.tolist() == [3, 0, 2, 1]
    assert found.rejected.tolist() == [0, 1, 1, 2]
    assert found.pairs.tolist() == [0, 1, 2, 2]
    assert [found.annotator_names[place] for place in found.annotators] == ["zoe", "al", "zoe", "bo"]
    assert found.correct.tolist() == [1, 0, 0, 1]  # the last by the other judgement of its pair


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_reviews_with_the_same_texts_and_repeated_comparisons_are_read_again_with_their_truth(tmp_path, suffix):
    """The texts of rows 0 and 2 are the same; their true ratings are 3 and 1, that of row 1 is 2."""
    texts = ["good", "fine", "good"]
    lists, wrong = np.array([[0, 1], [1, 2], [2, 1], [0, 1], [0, 2]]), [[0.0], [0.0], [1.0], [0.0], [0.0]]
    feedback = Feedback(lists, np.array([2, 1, 0])[lists], 0, 5, np.array(wrong))
    audited = AuditedFeedback(feedback, Audit(np.full(5, 0.5), 0.2, None), BEFORE)
    file = tmp_path / f"comparisons{suffix}"
    export_comparisons(file, audited, SimpleNamespace(texts=texts, scale=SCALE, judgements=None))
    found = read_judgements(file, texts)
    # The last list compares a text with itself.
    assert found.chosen.tolist() == [0, 1, 0, 0]
    assert found.rejected.tolist() == [1, 0, 1, 1]
    assert found.correct.tolist() == [1, 1, 0, 1]
    assert found.pairs.tolist() == [0, 1, 1, 0]


# --- where it may be written


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_file_in_a_folder_may_be_written_and_is_not(tmp_path, name):
    check_export(tmp_path / name, [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.csv", "a", "a.json", "a.jsonl.gz"])
def test_another_format_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"^--export .*: ends with neither \.jsonl nor \.parquet; choose one of them$"):
        check_export(tmp_path / name, [])


@pytest.mark.parametrize("place", ["nowhere/a.jsonl", "folder.jsonl", "file/a.jsonl"])
def test_a_place_without_a_folder_or_a_folder_itself_is_refused(tmp_path, place):
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^--export .*: there is no folder .*, or .* is one; choose another file$"):
        check_export(tmp_path / place, [])


@pytest.fixture
def inputs(tmp_path):
    """A file of reviews and one of comparisons, each in a folder with embeddings."""
    for folder in (tmp_path / "reviews", tmp_path / "comparisons"):
        (folder / "embeddings").mkdir(parents=True)
        (folder / "embeddings.pt").touch()
        (folder / "data.jsonl").touch()
    return [tmp_path / "reviews/data.jsonl", tmp_path / "comparisons/data.jsonl"]


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
@pytest.mark.parametrize("name", ["reviews/data.jsonl", "comparisons/data.jsonl", "reviews/embeddings.pt"])
def test_a_file_that_the_run_reads_is_refused_also_through_a_link(tmp_path, inputs, name, link):
    getattr(tmp_path / "link.jsonl", link)(tmp_path / name)
    with pytest.raises(InputError, match=r"^--export .*: would replace .*, which this run reads; choose another file$"):
        check_export(tmp_path / "link.jsonl", inputs)


@pytest.mark.parametrize("place", ["embeddings/new.jsonl", "../folder/new.jsonl", "../file.jsonl"])
def test_a_file_among_stored_embeddings_is_refused_also_through_a_link(tmp_path, inputs, place):
    store = inputs[1].with_name("embeddings")
    (tmp_path / "folder").symlink_to(store)
    (tmp_path / "file.jsonl").symlink_to(store / "stored.safetensors")
    with pytest.raises(InputError, match=r"^--export .*: .*embeddings is for stored embeddings; choose another"):
        check_export(inputs[1].parent / place, inputs)


def test_an_earlier_export_beside_the_data_may_be_replaced(inputs):
    earlier = inputs[0].with_name("earlier.jsonl")
    earlier.touch()
    check_export(earlier, inputs)
