"""What is written about comparisons: every text, number and name exactly, and nothing for what is not known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from noisy_feedback.data.preferences import read_judgements
from noisy_feedback.errors import InputError
from noisy_feedback.feedback.annotators import Annotators
from noisy_feedback.feedback.audit import Audit
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.output.feedback_tables import annotator_table, check_export, export_comparisons, feedback_table

BEFORE, AFTER = np.array([0, 0.5, 1, 2]), np.array([2, 1, 0.5, 0])  # rewards of the texts
NAMES = ["al", "bo", "nobody", "zoe"]
SCALE = np.array([1, 2, 10])
TEXTS = ['a "good" stay', "two\r\nlines, bad", "été, 漢字 🛏", " spaces "]

JUDGED = Feedback(  # four judgements by three of four annotators; of the last one the truth is not known
    lists=np.array([[3, 0], [0, 1], [2, 1], [1, 2]]),
    ratings=np.array([[2, 0], [0, 1], [-1, 1], [1, -1]]),
    changed=0,
    total=4,
    flipped=np.array([[0.0], [1.0], [1.0], [np.nan]]),
    pairs=np.array([0, 2, 1, 1]),
    annotators=np.array([3, 0, 3, 1]),
)
AUDIT = Audit(
    np.array([0.125, 0.75, 0.5, 0.25]),
    0.4,
    0.3,
    0.5,
    True,
    Annotators(
        judgements=np.array([1, 1, 0, 2]),
        reliability=np.array([0.6, 0.7, 0.8, 0.9]),
        low=np.array([0.5, 0.6, 0.7, 0.8]),
        high=np.array([0.7, 0.8, 0.9, 1.0]),
    ),
)
SIMULATED = Feedback(  # two lists of three reviews, without annotators
    np.array([[3, 2, 0], [2, 1, 0]]),
    np.array([[2, 1, 0], [2, 1, 0]]),
    changed=1,
    total=2,
    flipped=np.array([[0.0, np.nan], [1.0, 0.0]]),
)
WITHOUT_ANNOTATORS = Audit(np.array([0.1, 0.2, 0.3, 0.4]), 0.25, 0.2, 0.3, True, None)


def rows_of(table):
    """The rows of a table; None where nothing is known."""
    return list(table.astype(object).where(table.notna(), None).itertuples(index=False, name=None))


# --- feedback.csv and annotators.csv


def test_every_judgement_is_a_row_with_its_margins_before_and_after():
    table = feedback_table(JUDGED, AUDIT, BEFORE, AFTER, NAMES)
    assert ",".join(table) == "better,worse,pair,annotator,margin_before,margin_after,p_wrong,wrong"
    assert rows_of(table) == [
        (3, 0, 0, "zoe", 2.0, -2.0, 0.125, 0),
        (0, 1, 2, "al", -0.5, 1.0, 0.75, 1),
        (2, 1, 1, "zoe", 0.5, -0.5, 0.5, 1),
        (1, 2, 1, "bo", -0.5, 0.5, 0.25, None),
    ]


def test_adjacent_items_of_a_list_are_rows_in_its_order_and_have_neither_pair_nor_annotator():
    assert rows_of(feedback_table(SIMULATED, WITHOUT_ANNOTATORS, BEFORE, AFTER, [])) == [
        (3, 2, None, None, 1.0, -0.5, 0.1, 0),
        (2, 0, None, None, 1.0, -1.5, 0.2, None),
        (2, 1, None, None, 0.5, -0.5, 0.3, 1),
        (1, 0, None, None, 0.5, -1.0, 0.4, 0),
    ]


def test_every_annotator_who_judged_is_a_row_with_the_share_of_judgements_that_are_right():
    table = annotator_table(JUDGED, AUDIT, NAMES)
    assert ",".join(table) == "annotator,judgements,reliability,ci_low,ci_high,true_reliability"
    assert rows_of(table) == [
        ("al", 1, 0.6, 0.5, 0.7, 0.0),
        ("bo", 1, 0.7, 0.6, 0.8, None),  # nobody knows
        ("zoe", 2, 0.9, 0.8, 1.0, 0.5),
    ]
    assert annotator_table(SIMULATED, WITHOUT_ANNOTATORS, []) is None


# --- the preference data set


def export(file, feedback, audit, texts=TEXTS, names=NAMES):
    """The exported file, read by pandas."""
    judgements = SimpleNamespace(annotator_names=names) if feedback.annotators is not None else None
    dataset = SimpleNamespace(texts=texts, scale=SCALE, judgements=judgements, is_rated=True)
    export_comparisons(file, feedback, audit, dataset)
    return pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_json(file, lines=True, dtype=False)


@pytest.fixture(params=[".jsonl", ".parquet"])
def file(request, tmp_path):
    return tmp_path / f"comparisons{request.param}"


def test_an_export_has_the_texts_the_stars_and_what_is_known_and_is_read_as_judgements_again(file):
    table = export(file, JUDGED, AUDIT)
    table = table.astype(object).where(table.notna(), None)
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
    found = read_judgements(file, TEXTS)
    assert (found.chosen.tolist(), found.rejected.tolist()) == ([3, 0, 2, 1], [0, 1, 1, 2])
    assert found.pairs.tolist() == [0, 1, 2, 2]
    assert [found.annotator_names[place] for place in found.annotators] == ["zoe", "al", "zoe", "bo"]
    assert found.correct.tolist() == [1, 0, 0, 1]  # the last by the other judgement of its pair


def test_what_is_not_known_is_null_and_a_rating_an_integer(tmp_path):
    export(tmp_path / "c.jsonl", JUDGED, AUDIT)
    *_, last = (tmp_path / "c.jsonl").read_text(encoding="utf-8").splitlines()
    assert '"chosen_rating": 2, "rejected_rating": null' in last
    assert '"wrong": null' in last
    export(tmp_path / "c.parquet", JUDGED, AUDIT)
    table = pd.read_parquet(tmp_path / "c.parquet", dtype_backend="numpy_nullable")
    assert [str(table[name].dtype) for name in ("chosen_rating", "wrong", "pair")] == ["Int64", "boolean", "Int64"]


def test_reviews_with_the_same_texts_and_repeated_comparisons_are_read_again_with_their_truth(file):
    """The texts of rows 0 and 2 are the same; their true ratings are 3 and 1, that of row 1 is 2."""
    texts = ["good", "fine", "good"]
    lists = np.array([[0, 1], [1, 2], [2, 1], [0, 1], [0, 2]])
    feedback = Feedback(lists, np.array([2, 1, 0])[lists], 0, 5, np.array([[0.0], [0.0], [1.0], [0.0], [0.0]]))
    export(file, feedback, Audit(np.full(5, 0.5), 0.2, 0.1, 0.3, True, None), texts)
    found = read_judgements(file, texts)
    # The last list compares a text with itself.
    assert (found.chosen.tolist(), found.rejected.tolist()) == ([0, 1, 0, 0], [1, 0, 1, 1])
    assert found.correct.tolist() == [1, 1, 0, 1]
    assert found.pairs.tolist() == [0, 1, 1, 0]
    assert export(file, SIMULATED, WITHOUT_ANNOTATORS)[["chosen_rating", "pair"]].to_numpy().tolist() == [
        [10, 0], [2, 1], [10, 2], [2, 3]
    ]  # fmt: skip


# --- where it may be written


def test_only_another_file_of_a_right_format_in_a_folder_may_be_written(tmp_path):
    """Not one that the run reads, also through a link."""
    inputs = [tmp_path / "data.jsonl", tmp_path / "texts.parquet"]
    for file in inputs:
        file.touch()
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "earlier.jsonl").touch()
    (tmp_path / "link.jsonl").symlink_to(inputs[0])
    (tmp_path / "hard.jsonl").hardlink_to(inputs[1])
    refused = {
        "ends with neither .jsonl nor .parquet; choose one of them": ["a.csv", "a.jsonl.gz"],
        "is one; choose another file": ["nowhere/a.jsonl", "folder.jsonl", "data.jsonl/a.jsonl"],
        "which this run reads; choose another file": ["link.jsonl", "hard.jsonl", "data.jsonl"],
    }
    for says, names in refused.items():
        for name in names:
            with pytest.raises(InputError) as error:
                check_export(tmp_path / name, inputs)
            assert str(error.value).startswith(f"--export {tmp_path / name}: ")
            assert str(error.value).endswith(says)
    for name in ("new.parquet", "earlier.jsonl"):
        check_export(tmp_path / name, inputs)
    assert not (tmp_path / "new.parquet").exists()
