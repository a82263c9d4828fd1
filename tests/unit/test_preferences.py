"""A file of comparisons in any layout gives exactly its judgements, or one line that names the row and the way out."""

import hashlib
import json
from itertools import product

import numpy as np
import pytest

from noisy_feedback.data.preferences import read_judgements
from noisy_feedback.errors import InputError
from tests.conftest import content_of, message_of

GOOD, BAD, FINE, NEW = "a good stay", "two\nlines, bad", "fine", 'she said "new"'
REVIEWS = [GOOD, BAD, FINE, GOOD]  # the first and the last are the same text
ROWS = [  # of texts 0 to 2, the reviews, and 4 to 5, others
    {"chosen": GOOD, "rejected": BAD, "annotator": "zoe", "correct": "true"},
    {"chosen": NEW, "rejected": FINE, "annotator": "al", "correct": ""},
    {"chosen": BAD, "rejected": GOOD, "annotator": "zoe", "correct": "false"},
    {"chosen": FINE, "rejected": "été", "annotator": "bo", "correct": "true"},
]
SUFFIXES = [".csv", ".tsv", ".json", ".jsonl", ".parquet"]


def write(file, rows):
    file.write_bytes(content_of(rows, file.name[file.name.index(".") :]))
    return file


@pytest.fixture
def read(tmp_path):
    def read(rows, suffix=".jsonl", texts=None, drop_invalid=False, reviews=(), **names):
        return read_judgements(write(tmp_path / f"judged{suffix}", rows), reviews, names, texts, drop_invalid)

    return read


@pytest.fixture
def refused(read, tmp_path):
    def refused(rows, suffix=".jsonl", **options):
        return message_of(tmp_path, f"judged{suffix}", read, rows, suffix, **options)

    return refused


def orders(found):
    """(better, worse) texts of each judgement."""
    return [
        (found.texts[better], found.texts[worse]) for better, worse in zip(found.chosen, found.rejected, strict=True)
    ]


def said(*contents):
    """A conversation: the user begins, the assistant answers."""
    return [{"role": ("user", "assistant")[place % 2], "content": content} for place, content in enumerate(contents)]


def judged(chosen, rejected, **more):
    """One row for each of the texts in `chosen`, with lists of further columns."""
    columns = {"chosen": chosen, "rejected": rejected, **more}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


# --- TRL, UltraFeedback


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("written", [json.dumps, str, list])
def test_conversations_with_and_without_a_prompt_are_the_same_texts_and_prompts(read, suffix, written):
    written = str if suffix in (".csv", ".tsv") and written is list else written  # their cells hold texts
    implicit = [
        {"chosen": written(said("Colour?", 'It\'s "blue".')), "rejected": written(said("Colour?", "Green,\nor"))},
        {"chosen": written(said("Size?", "Big")), "rejected": written(said("Size?", "Small"))},
    ]
    explicit = [
        {
            "prompt": written(said(question)),
            "chosen": written(said("", better)[1:]),
            "rejected": written(said("", worse)[1:]),
        }
        for question, better, worse in (("Colour?", 'It\'s "blue".', "Green,\nor"), ("Size?", "Big", "Small"))
    ]
    for rows in (implicit, explicit):
        found = read(rows, suffix)
        assert orders(found) == [('Colour?\nIt\'s "blue".', "Colour?\nGreen,\nor"), ("Size?\nBig", "Size?\nSmall")]
        assert found.prompts.tolist() == [0, 1]


ONCE = [  # a prompt with which both sides begin, or not
    ("Why?", said("Why?", "So."), said("Why?", "No."), ("Why?\nSo.", "Why?\nNo.")),  # UltraFeedback
    (
        said("Hi", "?", "Why?"),
        said("Hi", "?", "Why?", "So."),
        said("Hi", "?", "Why?", "No."),
        ("Hi\n?\nWhy?\nSo.", "Hi\n?\nWhy?\nNo."),
    ),
    ("Q", said("Be", "a", "Q", "So."), said("Be", "a", "Q", "No."), ("Be\na\nQ\nSo.", "Be\na\nQ\nNo.")),
    ("The sky is", "The sky is blue.", "The sky is green.", ("The sky is blue.", "The sky is green.")),
    ("The sky is", " blue.", " green.", ("The sky is\n blue.", "The sky is\n green.")),
]


def test_a_prompt_is_in_a_text_once(read):
    for prompt, chosen, rejected, texts in ONCE:
        assert orders(read([{"prompt": prompt, "chosen": chosen, "rejected": rejected}])) == [texts]


def test_a_dialogue_is_one_group_at_whatever_depth(read):
    system = [{"role": "system", "content": "Be kind."}]
    rows = [
        {"chosen": said("Hi", "Hello"), "rejected": said("Hi", "Go")},
        {"chosen": said("Ho", "Hello"), "rejected": said("Ho", "Go")},
        {"chosen": said("Hi", "Hello", "Why?", "So."), "rejected": said("Hi", "Hello", "Why?", "No.")},
        {"chosen": said("Hi", "Go", "Why?", "So."), "rejected": said("Hi", "Go", "Why?", "No.")},
        {"chosen": system + said("Ho", "x"), "rejected": system + said("Ho", "y")},
        {"chosen": system + said("Other", "x"), "rejected": system + said("Other", "y")},
        {"chosen": said("Third", "x"), "rejected": said("Fourth", "x")},
        {"chosen": said("Fourth", "y", "z", "a"), "rejected": said("Fourth", "y", "z", "b")},
        {"chosen": said("Hi", "One", "Why?", "So."), "rejected": said("Hi", "Two", "Why?", "So.")},
        {"chosen": said("Hi", "x", "Why?", "So."), "rejected": said("Hi", "x")},
    ]
    found = read(rows)
    assert found.groups.tolist() == [0, 1, 0, 0, 1, 2, 3, 3, 0, 0]
    assert found.prompts.tolist() == [0, 1, 2, 3, 4, 5, -1, 6, 0, 0]  # what both share before the last message
    assert found.conversations
    explicit = [{side: row[side][-1:] for side in row} | {"prompt": row["chosen"][:-1]} for row in rows[:6]]
    assert read(explicit).groups.tolist() == found.groups[:6].tolist()
    assert read(explicit).conversations


def test_dialogues_as_hh_rlhf_writes_them_are_conversations(read):
    def human(*contents):
        return "".join(f"\n\n{('Human', 'Assistant')[n % 2]}: {content}" for n, content in enumerate(contents))

    turns = ["Hi", "Hello\n\nyou", "Why? Human: me", "So."], ["Hi", "Hello\n\nyou", "Why? Human: me", "No."]
    rows = [{"chosen": human(*turns[0]), "rejected": human(*turns[1])}]
    rows += [{"chosen": human("Hi", "x"), "rejected": human("Hi", "y")}]
    same = read([{"chosen": said(*turns[0]), "rejected": said(*turns[1])}])
    for suffix in SUFFIXES:
        found = read(rows, suffix)
        assert orders(found) == [*orders(same), ("Hi\nx", "Hi\ny")]
        assert (found.prompts.tolist(), found.groups.tolist(), found.conversations) == ([0, 1], [0, 0], True)
    begun = [{"prompt": human("Hi", ""), "chosen": " x", "rejected": " y"}]  # both answers follow "Assistant:"
    assert orders(read(begun)) == [("Hi\n x", "Hi\n y")]
    plain = read([{"chosen": "Human: all too human", "rejected": "\n\nAssistant: none"}])
    assert (orders(plain), plain.conversations) == ([("Human: all too human", "\n\nAssistant: none")], False)


# --- two texts and a winner


WRITTEN = [("a", "b"), (" A", "B "), (1, 2), ("1", "2"), (1.0, 2.0), ("Model_a", "model_b"), ("text_a", "text_b")]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_winner_however_it_is_written_chooses_one_of_two_texts(read, suffix):
    names = [*product(("text_{}", "response_{}"), ("a",), ("b",)), ("response{}", 1, 2)]
    cases = [(name, winner, ("a", "b")) for name, winner in product(names, ("winner", "preference"))]
    for (name, first, second), winner, both in cases + [(names[0], "winner", both) for both in WRITTEN]:
        rows = [{name.format(first): "x", name.format(second): "y", winner: wins} for wins in both]
        assert orders(read(rows, suffix)) == [("x", "y"), ("y", "x")], both


ASKED, SO, NO = said("Why?"), said("Why?", "So.", "And?", "Well."), said("Why?", "No.", "And?", "Hm.")
SO_TEXT, NO_TEXT = "Why?\nSo.\nAnd?\nWell.", "Why?\nNo.\nAnd?\nHm."
FIRST, SECOND = ("Why?\nSo.", "Why?\nNo."), ("Why?\nNo.", "Why?\nSo.")
PART, PICTURE = {"type": "text", "text": "Why?"}, {"type": "image", "image": "x"}


def asked(first, second, prompt="prompt", question="Why?"):
    return {prompt: question, first: "So.", second: "No."}


def sharegpt(*contents):
    return [{"from": ("human", "gpt")[place % 2], "value": content} for place, content in enumerate(contents)]


LAYOUTS = {  # rows but for a column, the values of this column, options, and what each row says; None: a tie
    "chatbot_arena_conversations": (
        {"conversation_a": SO, "conversation_b": NO, "judge": "u1", "model_a": "m"},
        {"winner": ["model_b", "tie", "tie (bothbad)", "model_a"]},
        {"annotator": "judge"},
        [(NO_TEXT, SO_TEXT), None, None, (SO_TEXT, NO_TEXT)],
    ),
    "arena-human-preference-140k": (
        {
            "conversation_a": said([PART], [{**PART, "text": "So."}]),
            "conversation_b": said([PART], [PART, PICTURE, PART]),
        },
        {"winner": ["both_bad", "model_a"]},
        {},
        [None, ("Why?\nSo.", "Why?\nWhy?\nWhy?")],
    ),
    "HelpSteer3": (
        asked("response1", "response2", "context", ASKED),
        {"overall_preference": [-3, -1, 0, 1, 3]},
        {},
        [FIRST, FIRST, None, SECOND, SECOND],
    ),
    "HelpSteer2": (asked("response_1", "response_2"), {"preference_strength": [-2, 0, 2]}, {}, [FIRST, None, SECOND]),
    "PKU-SafeRLHF": (asked("response_0", "response_1"), {"better_response_id": [0, 1]}, {}, [FIRST, SECOND]),
    "SHP": (asked("human_ref_A", "human_ref_B", "history"), {"labels": [1, 0]}, {}, [FIRST, SECOND]),
    "ShareGPT": (
        {"chosen": [{"from": "system", "value": "Be kind."}, *sharegpt("Why?", "So.")]},
        {"rejected": [json.dumps([{"from": "system", "value": "Be kind."}, *sharegpt("Why?", "No.")])]},
        {},
        [("Be kind.\nWhy?\nSo.", "Be kind.\nWhy?\nNo.")],
    ),
    "both forms of messages in one column": (
        {"chosen": [{"from": None, "value": None, **message} for message in said("Why?", "So.")]},
        {"rejected": [[{"role": None, "content": None, **message} for message in sharegpt("Why?", "No.")]]},
        {},
        [FIRST],
    ),
    "LLaMA-Factory": (
        {"conversations": sharegpt("Why?"), "chosen": sharegpt("", "So.")[1]},
        {"rejected": [sharegpt("", "No.")[1]]},
        {"prompt": "conversations"},
        [FIRST],
    ),
}


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_public_layouts(read, name, suffix):
    row, more, options, expected = LAYOUTS[name]
    ((column, values),) = more.items()
    found = read([{**row, column: value} for value in values], suffix, drop_invalid=True, **options)
    assert orders(found) == [order for order in expected if order is not None]
    assert sum(found.dropped.values()) == expected.count(None)
    assert set(found.prompts.tolist()) == {0}
    assert found.annotator_names == (["u1"] if "judge" in row else [])
    assert found.unused == (["model_a"] if "judge" in row else [])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_chatbot_arena_at_kaggle(read, suffix):
    """Lists of the user's and of the models' turns, and one column for each outcome."""
    votes = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    names = ("winner_model_a", "winner_model_b", "winner_tie")
    turns = {"prompt": '["Why?", "And?"]', "response_a": '["So.", "Well."]', "response_b": '["No.", null]'}
    single = {"prompt": '["Why?"]', "response_a": '["So."]', "response_b": '["No."]'}
    rows = [{**(turns if n == 2 else single), **dict(zip(names, votes[n], strict=True))} for n in range(3)]
    found = read(rows, suffix, drop_invalid=True)
    assert (orders(found), found.prompts.tolist(), found.dropped) == ([FIRST, SECOND], [0, 0], {"tied": 1})
    rows[2] = {**turns, **dict(zip(names, votes[0], strict=True)), "response_b": '["No.", "Hm."]'}
    assert orders(read(rows, suffix))[2] == (SO_TEXT, NO_TEXT)
    rows[2]["prompt"] = '["Why?"]'  # fewer turns than answers, so these are texts that look like lists
    assert orders(read(rows, suffix))[2] == ('["Why?"]\n["So.", "Well."]', '["Why?"]\n["No.", "Hm."]')


def test_an_export_of_argilla_has_a_judgement_for_each_response(read):
    both = ["response1", "response2"], ["u", "v"]
    judged = [{"preference.responses": both[0][:n], "preference.responses.users": both[1][:n]} for n in (1, 2)]
    for suffix in (".jsonl", ".parquet"):
        found = read([{**asked("response1", "response2"), **responses} for responses in judged], suffix)
        assert orders(found) == [FIRST, FIRST, SECOND]
        assert (found.annotators.tolist(), found.annotator_names) == ([0, 0, 1], ["u", "v"])


def test_of_more_columns_those_of_one_layout_are_read(read):
    row = {"text_a": "x", "text_b": "y", "winner": "b", "context": "Why?", "history": "Why?"}
    cases = [
        ({**row, "chosen": "z", "rejected": "x", "correct": 1, "wrong": 1}, ("z", "x"), [*row, "wrong"]),
        (row, ("y", "x"), ["context", "history"]),
        ({**asked("response_0", "response_1"), "response_2": "?", "better_response_id": 1}, SECOND, ["response_2"]),
    ]
    for form in ("score_{}", "{}_score", "{}-rating"):
        scores = {form.format(side): 8.5 for side in ("chosen", "rejected")}
        cases.append(({"p_id": 3, "chosen": "a", "rejected": "b", **scores}, ("a", "b"), ["p_id"]))
    for columns, order, unused in cases:
        found = read([columns])
        assert (orders(found), found.unused) == ([order], unused)


# --- ids and other names


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_ids_stand_for_the_texts_of_another_file(read, tmp_path, suffix):
    texts = write(tmp_path / "texts.jsonl", [{"id": n, "score": 0.5, "text": text} for n, text in enumerate("xyz")])
    rows = [{"funnier": 2, "other": 0}, {"funnier": 0, "other": 1}]
    found = read(rows, suffix, chosen="funnier", rejected="other", texts=texts)
    assert orders(found) == [("z", "x"), ("x", "y")]
    rows.append({"funnier": 1, "other": None})
    found = read(rows, suffix, chosen="funnier", rejected="other", texts=texts, drop_invalid=True)
    assert found.dropped == {"with an empty text": 1}


def test_options_name_the_columns(read, refused):
    rows = [{"q": "Why?", "good": "a", "bad": "b", "worker": 7, "chosen": "no", "rejected": "not", "prompt": "nor"}]
    names = {"chosen": "good", "rejected": "bad", "prompt": "q", "annotator": "worker"}
    found = read(rows, **names)
    assert orders(found) == [("Why?\na", "Why?\nb")]
    assert found.annotator_names == ["7"]
    assert found.unused == ["chosen", "rejected", "prompt"]
    assert refused(rows, annotator="who").startswith("no column 'who'; it has 'q', 'good', 'bad', 'worker', ")


# --- what is no comparison


def test_what_is_no_comparison_is_named_once_with_counts_or_left_out(read, refused):
    wins = {"text_a": "x", "text_b": "y", "winner": "b", "annotator": "u"}
    rows = [
        wins,
        {**wins, "winner": "tie"},
        {**wins, "text_b": "x"},
        {**wins, "text_a": " "},
        {**wins, "text_a": "A  fine stay", "text_b": "a fine\nSTAY"},
        {**wins, "annotator": ""},
        {**wins, "winner": ""},
        {**wins, "text_a": said("x", "y")[:1]},
        {**wins, "winner": "tie", "annotator": None},
        {**wins, "text_b": said("x", "")},
        {**wins, "winner": "a"},
    ]
    assert refused(rows) == (
        "9 of 11 comparisons cannot be used: 2 tied (the first is comparison 2), 2 of texts that are the same but for "
        "case and white space (the first is comparison 3), 2 with an empty text (the first is comparison 4), 1 without "
        "annotator (the first is comparison 6), 1 without a winner (the first is comparison 7), 1 whose conversation "
        "does not end with the assistant (the first is comparison 8); --drop-invalid leaves them out"
    )
    found = read(rows, drop_invalid=True)
    assert orders(found) == [("y", "x"), ("x", "y")]
    assert list(found.dropped.values()) == [2, 2, 2, 1, 1, 1]
    assert refused(rows[1:10], drop_invalid=True) == "--drop-invalid leaves no comparison"
    rows = [{"chosen": "a", "rejected": "a", "correct": ""}, {"chosen": "a", "rejected": "b", "correct": "perhaps"}]
    assert refused(rows, drop_invalid=True).startswith("comparison 2: 'correct' is 'perhaps'")
    for side, nothing in product(("chosen", "rejected"), (None, "", [])):  # also behind a prompt
        assert "1 with an empty text" in refused([{"prompt": "q", "chosen": "a", "rejected": "b", side: nothing}])


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_integers_stay_annotators_where_others_are_left_out(read, suffix):
    rows = [{"chosen": "a", "rejected": "b", "annotator": who} for who in (3, None, 12)]
    found = read(rows, suffix, drop_invalid=True)
    assert [found.annotator_names[place] for place in found.annotators] == ["3", "12"]
    assert found.dropped == {"without annotator": 1}


UNREADABLE = [
    ([{"text_a": "x", "text_b": "y", "winner": wins} for wins in ("a", "c")],
     "comparison 2: 'winner' is 'c'; it must be empty or one of text_a, text_b, a, 1, model_a, "),
    ([{"text_a": "x", "text_b": "y", "winner_model_a": 1, "winner_model_b": 1, "winner_tie": 0}],
     "comparison 1: 'winner' is 'model_a and model_b'; it must be empty or one of text_a, "),
    ([{**asked("response1", "response2"), "preference.responses": ["a", "b"], "preference.responses.users": ["u"]}],
     "'preference.responses' and 'preference.responses.users' must be lists of the same length"),
    ([{"good": "x", "bad": "y"}],
     "no column 'chosen'; it has 'good', 'bad' (--chosen-column and --rejected-column name the texts; docs/"),
    ([{"chosen": said("a", "x\ud800"), "rejected": "y"}],
     r"comparison 1 is 'a\nx\ud800'; it must be text, without lone surrogates, which are half characters (column "),
    ([{"chosen": "x", "rejected": "y", "annotator": "z\ud800"}],
     r"comparison 1 is 'z\ud800'; it must be text, without lone surrogates"),
]  # fmt: skip


def test_what_cannot_be_read_is_one_line_with_the_way_out(refused):
    for rows, says in UNREADABLE:
        assert refused(rows).startswith(says)
    assert refused([], ".json") == "holds no comparison"


def test_texts_that_look_like_lists_are_texts(read):
    rows = [{"chosen": '[{"from": 1}]', "rejected": "[deleted]"}, {"chosen": "[{'a': 1", "rejected": '["x"]'}]
    assert orders(read(rows)) == [('[{"from": 1}]', "[deleted]"), ("[{'a': 1", '["x"]')]
    for written in ("['{}']", "[1, 2{}]"):  # no turns
        asks, one, other = map(written.format, range(3))
        found = read([{"prompt": asks, "response_a": one, "response_b": other, "winner": "a"}])
        assert orders(found) == [(f"{asks}\n{one}", f"{asks}\n{other}")]


def test_texts_need_ids_that_are_known_and_different(refused, read, tmp_path):
    rows = [{"chosen": "1", "rejected": "2"}, {"chosen": "1", "rejected": "9"}]
    texts = write(tmp_path / "texts.csv", [{"id": n, "text": "x"} for n in (1, 2, "x1")])
    for name in ("9", "X1"):  # an id is found as it is written
        rows[1]["rejected"] = name
        assert refused(rows, texts=texts) == f"comparison 2: {texts} has no text with the id {name!r}"
    write(texts, [{"id": 1, "text": "x"}, {"id": 1, "text": "y"}])
    with pytest.raises(InputError, match=r"texts\.csv: text 2 has the id '1' of another text$"):
        read(rows, texts=texts)
    write(texts, [{"name": 1, "text": "x"}])
    with pytest.raises(InputError, match=r"no column 'id'; it has 'name', 'text'"):
        read(rows, texts=texts)


# --- numbers of texts


@pytest.mark.parametrize("suffix", [".csv", ".tsv.gz", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_judgements_known_by_name_folder_and_content(read, tmp_path, suffix):
    found = read(ROWS, suffix, reviews=REVIEWS)
    assert (found.name, found.folder) == (f"judged{suffix}", tmp_path)
    assert found.sha256 == hashlib.sha256((tmp_path / f"judged{suffix}").read_bytes()).hexdigest()
    assert found.texts == [NEW, "été"]
    assert found.chosen.tolist() == [0, 4, 1, 2]
    assert found.rejected.tolist() == [1, 2, 0, 5]
    assert found.pairs.tolist() == [0, 1, 0, 2]
    assert found.annotator_names == ["al", "bo", "zoe"]
    assert found.annotators.tolist() == [2, 0, 2, 1]
    assert np.array_equal(found.correct, [1, np.nan, 0, 1], equal_nan=True)


def test_a_text_takes_the_first_review_that_has_it_or_a_number_after_the_reviews(read):
    assert read(judged([FINE, BAD], ["x", "x"]), reviews=[BAD, FINE, BAD, FINE]).chosen.tolist() == [1, 0]
    found = read(judged(["b", "a", "a"], ["a", "b", GOOD]), reviews=REVIEWS)
    assert (found.annotators, found.annotator_names, found.correct) == (None, [], None)  # texts are all that is needed
    numbers = {text: number for number, text in enumerate([*REVIEWS[:3], "", *found.texts])}
    assert found.chosen.tolist() == [numbers[text] for text in "baa"]
    assert found.rejected.tolist() == [numbers["a"], numbers["b"], 0]
    assert sorted(found.texts) == ["a", "b"]
    answers = ([{"role": "assistant", "content": text}] for text in (GOOD, FINE))  # a conversation of one message
    found = read(judged(*([answer] for answer in answers)), reviews=REVIEWS)
    assert (found.chosen.tolist(), found.rejected.tolist(), found.texts) == ([0], [2], [])


def test_a_conversation_of_another_shape_is_refused_with_its_row(refused):
    cut = '[{"role": "user", "content": "x"'
    shapes = (["a"], [{"content": "a"}], [{"role": "user", "content": None}], {"a": "b"}, 7, cut)
    for shape, side in product(shapes, ("chosen", "rejected", "prompt")):
        rows = judged([GOOD, GOOD], [BAD, FINE], prompt=["", ""])
        rows[1][side] = shape
        message = refused(rows)
        assert message.startswith(f"comparison 2: {side!r} is ")
        assert message.endswith("a list of messages with role and content")


# --- pairs


def test_judgements_of_the_same_two_texts_are_of_one_pair_whatever_their_order_unless_pairs_have_names(read):
    found = read(judged([GOOD, "x", BAD, GOOD, GOOD, "y", BAD], [BAD, GOOD, GOOD, FINE, "x", GOOD, "x"]))
    assert found.pairs.tolist() == [0, 1, 0, 2, 1, 3, 4]
    for names, suffix in product((["q", "p", "q"], [7, 3, 7]), SUFFIXES):
        assert read(judged([GOOD, GOOD, BAD], [BAD, FINE, GOOD], pair=names), suffix).pairs.tolist() == [0, 1, 0]
    assert read(judged([GOOD, GOOD], [BAD, BAD], pair=["p", "q"])).pairs.tolist() == [0, 1]


def test_a_pair_that_is_missing_or_has_other_texts_is_refused_with_its_row(refused):
    message = refused(judged([GOOD, GOOD, BAD], [BAD, FINE, FINE], pair=["p", "q", "p"]))
    assert message == "comparison 3 has other texts than the first of its pair 'p'; correct or remove the column 'pair'"


# --- the truth

TRUTHS = [[True, False], ["true", "false"], ["True", "FALSE"], [1, 0], ["1", "0"], [1.0, 0.0], [" true ", "0.0"]]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_truth_may_be_written_in_several_ways_or_be_missing(read, suffix):
    for written in TRUTHS:
        found = read(judged([GOOD, GOOD], [BAD, FINE], correct=written), suffix)
        assert found.correct.tolist() == [1, 0], written
    found = read(judged([GOOD, GOOD, FINE], [BAD, FINE, BAD], correct=[True, None, False]), suffix)
    assert np.array_equal(found.correct, [1, np.nan, 0], equal_nan=True)


def test_a_truth_that_is_none_is_refused_with_its_row(refused):
    for wrong in ("yes", 2, -1, 0.5, [1], "text_1"):
        message = refused(judged([GOOD] * 2, [BAD] * 2, correct=[True, wrong]))
        assert message == f"comparison 2: 'correct' is {str(wrong)!r}; it must be empty or one of true, false, 1, 0"


@pytest.mark.parametrize(("chosen", "rejected", "correct"), [(GOOD, BAD, False), (BAD, GOOD, True)])
def test_judgements_of_a_pair_that_cannot_all_be_as_said_are_refused_with_both_rows(refused, chosen, rejected, correct):
    rows = judged([GOOD, FINE, chosen], [BAD, "x", rejected], correct=[True, False, correct])
    assert refused(rows).startswith("comparison 3 contradicts what an earlier one of its pair says")
    wrong = judged([GOOD, FINE, chosen], [BAD, "x", rejected], wrong=[True, False, correct])
    assert refused(wrong).startswith("comparison 3 contradicts what an earlier one of its pair says")


def test_the_truth_of_one_judgement_is_that_of_its_pair_and_wrong_is_the_opposite_of_correct(read):
    rows = judged([GOOD, BAD, GOOD, BAD, FINE], [BAD, GOOD, BAD, GOOD, BAD], correct=[None, False, True, None, None])
    np.testing.assert_array_equal(read(rows).correct, [1, 0, 1, 0, np.nan])
    exported = judged("aab", "bcc", wrong=[True, False, None])
    np.testing.assert_array_equal(read(exported, ".csv").correct, [0, 1, np.nan])
