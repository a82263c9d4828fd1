"""A file of comparisons gives exactly its judgements, or one line that names the file, the row and the way out."""

import gzip
import hashlib
import io
import json

import numpy as np
import pandas as pd
import pytest

from noisy_feedback.data.preferences import read_judgements
from noisy_feedback.errors import InputError

GOOD, BAD, FINE, NEW = "a good stay", "two\nlines, bad", "fine", 'she said "new"'
REVIEWS = [GOOD, BAD, FINE, GOOD]  # the first and the last are the same text
ROWS = [  # of texts 0 to 2, the reviews, and 4 to 5, others
    {"chosen": GOOD, "rejected": BAD, "annotator": "zoe", "correct": "true"},
    {"chosen": NEW, "rejected": FINE, "annotator": "al", "correct": ""},
    {"chosen": BAD, "rejected": GOOD, "annotator": "zoe", "correct": "false"},
    {"chosen": FINE, "rejected": "été", "annotator": "bo", "correct": "true"},
]


def content_of(rows, suffix):
    if suffix == ".jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = io.BytesIO()
    table = pd.DataFrame(rows)
    if suffix == ".parquet":
        table.to_parquet(file)
    else:
        table.to_csv(file, index=False, sep={".csv": ",", ".tsv": "\t"}[suffix])
    return file.getvalue()


def write(folder, rows, suffix=".jsonl"):
    file = folder / f"judged{suffix}"
    content = content_of(rows, suffix.removesuffix(".gz"))
    file.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    return file


@pytest.fixture
def read(tmp_path):
    return lambda rows, suffix=".jsonl", reviews=REVIEWS: read_judgements(write(tmp_path, rows, suffix), reviews)


@pytest.fixture
def refused(tmp_path):
    """The message of the error, without the file's name."""

    def refused(rows, suffix=".jsonl"):
        file = write(tmp_path, rows, suffix)
        with pytest.raises(InputError) as error:
            read_judgements(file, REVIEWS)
        message = str(error.value)
        assert message.startswith(f"{file}: ")
        assert "\n" not in message
        return message.removeprefix(f"{file}: ")

    return refused


def judged(chosen, rejected, **more):
    """One row for each of the texts in `chosen`, with lists of further columns."""
    columns = {"chosen": chosen, "rejected": rejected, **more}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def said(*contents, role="user"):
    return [{"role": role, "content": content} for content in contents]


def answer(text):
    return said(text, role="assistant")


# --- formats and texts


@pytest.mark.parametrize(
    "suffix", [kind + end for kind in (".csv", ".tsv", ".jsonl", ".parquet") for end in ("", ".gz")]
)
def test_every_format_gives_the_same_judgements(read, suffix):
    found = read(ROWS, suffix)
    assert found.texts == [NEW, "été"]
    assert found.chosen.tolist() == [0, 4, 1, 2]
    assert found.rejected.tolist() == [1, 2, 0, 5]
    assert found.pairs.tolist() == [0, 1, 0, 2]
    assert found.annotator_names == ["al", "bo", "zoe"]
    assert found.annotators.tolist() == [2, 0, 2, 1]
    assert np.array_equal(found.correct, [1, np.nan, 0, 1], equal_nan=True)


def test_the_two_texts_are_all_that_is_needed(read):
    found = read(judged([GOOD], [BAD]))
    assert (found.annotators, found.annotator_names, found.correct) == (None, [], None)
    assert found.texts == []


def test_a_text_that_several_reviews_have_is_the_first_of_them(read):
    assert read(judged([FINE, BAD], ["x", "x"]), reviews=[BAD, FINE, BAD, FINE]).chosen.tolist() == [1, 0]


def test_other_texts_are_numbered_after_the_reviews_and_a_text_once(read):
    found = read(judged(["b", "a", "a"], ["a", "b", GOOD]))
    assert {**dict(enumerate(REVIEWS)), **dict(enumerate(found.texts, start=4))}[4] in "ab"
    numbers = {text: number for number, text in enumerate([*REVIEWS[:3], "", *found.texts])}
    assert found.chosen.tolist() == [numbers[text] for text in "baa"]
    assert found.rejected.tolist() == [numbers["a"], numbers["b"], 0]
    assert sorted(found.texts) == ["a", "b"]


def test_a_file_is_known_by_its_name_folder_and_content(tmp_path):
    file = write(tmp_path, ROWS)
    found = read_judgements(file, REVIEWS)
    assert (found.name, found.folder) == ("judged.jsonl", tmp_path)
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


# --- conversations


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".jsonl.gz"])
def test_a_conversation_is_its_contents_in_lines(read, suffix):
    """TRL's implicit prompt: both sides begin with the same question."""
    chosen, rejected = said("which hotel?") + answer("this"), said("which hotel?") + answer("that")
    found = read(judged([chosen], [rejected]), suffix)
    assert found.texts == ["which hotel?\nthis", "which hotel?\nthat"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("prompt", ["why?\nsay", said("why?", "say")], ids=["text", "conversation"])
@pytest.mark.parametrize("form", [str, answer], ids=["text", "conversation"])
def test_a_prompt_goes_in_front_of_both_sides(read, prompt, form, suffix):
    found = read(judged([form("yes")], [form("no")], prompt=[prompt]), suffix)
    assert found.texts == ["why?\nsay\nyes", "why?\nsay\nno"]


def test_a_conversation_of_one_message_can_be_a_review(read):
    found = read(judged([answer(GOOD)], [answer(FINE)]))
    assert (found.chosen.tolist(), found.rejected.tolist(), found.texts) == ([0], [2], [])


@pytest.mark.parametrize(
    "conversation",
    [["a", "b"], [{"content": "a"}], [{"role": "user"}], [{"role": "user", "content": None}], [7], [None], {"a": "b"}],
    ids=str,
)
@pytest.mark.parametrize("side", ["chosen", "rejected", "prompt"])
def test_a_conversation_of_another_shape_is_refused_with_its_row(refused, conversation, side):
    rows = judged([GOOD, GOOD], [BAD, FINE], prompt=["", ""])
    rows[1][side] = conversation
    message = refused(rows)
    assert message.startswith("comparison 2 is ")
    assert message.endswith(f"; every comparison must be text (column {side!r})")


# --- pairs


def test_judgements_of_the_same_two_texts_are_of_one_pair_whatever_their_order(read):
    found = read(judged([GOOD, "x", BAD, GOOD, GOOD, "y", BAD], [BAD, GOOD, GOOD, FINE, "x", GOOD, "x"]))
    assert found.pairs.tolist() == [0, 1, 0, 2, 1, 3, 4]


@pytest.mark.parametrize("names", [["q", "p", "q"], [7, 3, 7]], ids=["texts", "numbers"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_pairs_are_numbered_in_the_order_of_their_first_judgements(read, names, suffix):
    assert read(judged([GOOD, GOOD, BAD], [BAD, FINE, GOOD], pair=names), suffix).pairs.tolist() == [0, 1, 0]


def test_the_same_two_texts_can_be_two_pairs_by_name(read):
    assert read(judged([GOOD, GOOD], [BAD, BAD], pair=["p", "q"])).pairs.tolist() == [0, 1]


def test_a_pair_that_has_other_texts_is_refused_with_its_row_and_name(refused):
    message = refused(judged([GOOD, GOOD, BAD], [BAD, FINE, FINE], pair=["p", "q", "p"]))
    assert message == (
        "comparison 3 has other texts than the first of its pair 'p'; correct or remove the column 'pair'"
    )


# --- annotators


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_annotators_may_be_integers(read, suffix):
    found = read(judged([GOOD] * 3, [BAD] * 3, annotator=[12, 3, 12]), suffix)
    assert [found.annotator_names[place] for place in found.annotators] == ["12", "3", "12"]
    assert len(found.annotator_names) == 2


# --- the truth


@pytest.mark.parametrize(
    "written", [[True, False], ["true", "false"], ["True", "FALSE"], [1, 0], ["1", "0"], [1.0, 0.0], [" true ", "0.0"]]
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_truth_may_be_written_in_several_ways(read, written, suffix):
    found = read(judged([GOOD, GOOD], [BAD, FINE], correct=written), suffix)
    assert found.correct.tolist() == [1, 0]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_an_unknown_truth_is_an_empty_cell(read, suffix):
    found = read(judged([GOOD, GOOD, FINE], [BAD, FINE, BAD], correct=[True, None, False]), suffix)
    assert np.array_equal(found.correct, [1, np.nan, 0], equal_nan=True)


@pytest.mark.parametrize("wrong", ["yes", 2, -1, 0.5, [1]], ids=str)
def test_a_truth_that_is_none_is_refused_with_its_row(refused, wrong):
    message = refused(judged([GOOD] * 2, [BAD] * 2, correct=[True, wrong]))
    assert message == f"'correct' of comparison 2 is {str(wrong)!r}; it must be true, false or empty"


CONTRADICTIONS = {  # of a third judgement, of the pair of the first, which is right
    "the same order, said to be wrong": (GOOD, BAD, False),
    "the other order, said to be right as well": (BAD, GOOD, True),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_judgements_of_a_pair_that_cannot_all_be_as_said_are_refused_with_both_rows(refused, case):
    chosen, rejected, correct = CONTRADICTIONS[case]
    rows = judged([GOOD, FINE, chosen], [BAD, "x", rejected], correct=[True, False, correct])
    assert refused(rows) == "'correct' of comparison 3 contradicts comparison 1, which is of the same pair"


def test_judgements_of_a_pair_agree_where_their_truth_is_that_of_the_order(read):
    rows = judged([GOOD, BAD, GOOD, BAD], [BAD, GOOD, BAD, GOOD], correct=[None, False, True, None])
    assert read(rows).correct.tolist() == [1, 0, 1, 0]


# --- what is refused


@pytest.mark.parametrize("column", ["chosen", "rejected"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_missing_column_is_named(refused, column, suffix):
    message = refused([{name: value for name, value in row.items() if name != column} for row in ROWS], suffix)
    assert message.startswith(f"no column {column!r}; it has ")
    assert "a preference data set has the columns chosen and rejected" in message


def test_a_file_without_rows_is_refused(tmp_path):
    (tmp_path / "judged.csv").write_text("chosen,rejected\n")
    with pytest.raises(InputError, match=r"judged\.csv: holds no comparison$"):
        read_judgements(tmp_path / "judged.csv", REVIEWS)


def test_a_file_that_is_not_there_is_named_with_what_it_should_be(tmp_path):
    with pytest.raises(
        InputError, match=r"^--comparisons .*nowhere\.csv: no such file; a preference data set has"
    ) as error:
        read_judgements(tmp_path / "nowhere.csv", REVIEWS)
    assert "\n" not in str(error.value)


def test_a_broken_file_is_one_line_that_calls_its_rows_comparisons(tmp_path):
    (tmp_path / "judged.csv").write_text('chosen,rejected\na,b\n"never closed,b\n')
    with pytest.raises(InputError, match=r'a quote \("\) that opens in comparison 2 is not closed'):
        read_judgements(tmp_path / "judged.csv", REVIEWS)


def test_wrong_of_an_exported_file_is_the_opposite_of_correct(tmp_path):
    file = tmp_path / "exported.csv"
    file.write_text("chosen,rejected,wrong\na,b,True\na,c,False\nb,c,\n")
    np.testing.assert_array_equal(read_judgements(file, []).correct, [0, 1, np.nan])


def test_the_truth_of_one_judgement_is_that_of_its_pair(tmp_path):
    file = tmp_path / "judged.csv"
    file.write_text("chosen,rejected,correct\na,b,\nb,a,True\na,b,\nc,d,\n")
    np.testing.assert_array_equal(read_judgements(file, []).correct, [0, 1, 0, np.nan])


def test_an_empty_prompt_adds_nothing(tmp_path):
    file = tmp_path / "judged.csv"
    file.write_text("prompt,chosen,rejected\n,a,b\nq,a,b\n")
    judgements = read_judgements(file, ["a", "b"])
    assert judgements.chosen.tolist() == [0, 2]
    assert judgements.texts == ["q\na", "q\nb"]
