import arguments
import pandas as pd
import pytest

from noisy_feedback.errors import InputError
from tests import conftest

HEADER = "#id\trank\targument\n"
TEA = HEADER + "12\t0.30\tIt is hot. <br/> Very hot.\n11\t0.10\tIt wakes you.\n13\t0.20\tIt is old.\n"
DOGS = HEADER + "arg22\t0.5\tThey bark.\narg21\t0.5\tThey fetch.\n"


def pair(first, second, gold, **judgements):
    """A pair in XML, with elements that are not needed; `judgements` are workers and what they say."""
    labels = f"<goldLabel>{gold}</goldLabel>" if gold else ""
    assignments = "".join(
        f"<mTurkAssignment><turkID>{worker}</turkID><value>{value}</value><reason>None.</reason></mTurkAssignment>"
        for worker, value in judgements.items()
    )
    return (
        f"<annotatedArgumentPair><id>{first}_{second}</id>"
        f"<arg1><text>...</text><id>{first}</id></arg1><arg2><text>...</text><id>{second}</id></arg2>"
        f"<mTurkAssignments>{assignments}</mTurkAssignments>{labels}</annotatedArgumentPair>"
    )


def xml(*pairs):
    return f'<?xml version="1.0"?>\n<list>{"".join(pairs)}</list>'


FILES = {
    "UKPConvArg1-Ranking-CSV/tea_the-comon-view.csv": TEA,
    "UKPConvArg1-Ranking-CSV/dogs_yes.csv": DOGS,
    "UKPConvArg1-full-XML/tea_the-common-view.xml": xml(
        pair("11", "12", "equal", Ann="a1"), pair("12", "11", "a2", Ann="a2", Bob="equal", Cy="a1")
    ),
    "UKPConvArg1-full-XML/dogs_yes.xml": xml(
        pair("arg22", "arg21", "", Bob="a2"), pair("arg21", "arg22", "a1", Ann="a2", Dan="a1")
    ),
}


def zip_of(files=FILES):
    return conftest.zip_of({f"repository-master/data/{name}": text for name, text in files.items()})


def changed(name, text):
    """The zip with other content in one file."""
    return zip_of({**FILES, name: text})


def error_of(content):
    """The message, one line, that refuses a zip."""
    with pytest.raises(InputError) as error:
        arguments.read_corpus(content)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_arguments_have_their_rating_and_topic_and_judgements_without_gold_label_or_of_equal_ones_are_left_out():
    reviews, judgements = arguments.read_corpus(zip_of())
    assert [tuple(reviews), *reviews.itertuples(index=False, name=None)] == [
        ("Review", "Rating", "Topic"),
        ("They fetch.", 1, "dogs_yes"),
        ("They bark.", 5, "dogs_yes"),
        ("It wakes you.", 5, "tea_the-comon-view"),
        ("It is hot. \n Very hot.", 1, "tea_the-comon-view"),
        ("It is old.", 3, "tea_the-comon-view"),
    ]
    assert [tuple(judgements), *judgements.itertuples(index=False, name=None)] == [
        ("chosen", "rejected", "annotator", "correct", "Topic", "pair"),
        ("They bark.", "They fetch.", "Ann", False, "dogs_yes", 0),
        ("They fetch.", "They bark.", "Dan", True, "dogs_yes", 0),
        ("It wakes you.", "It is hot. \n Very hot.", "Ann", True, "tea_the-common-view", 1),
        ("It is hot. \n Very hot.", "It wakes you.", "Cy", False, "tea_the-common-view", 1),
    ]


def test_ratings_are_the_quintiles_of_the_rank_of_the_score_and_the_first_of_equal_scores_is_the_higher():
    for count in (2, 3, 5, 25, 28, 31, 33, 35):
        scores = [(7 * i % 11) / 10 for i in range(count)]  # with equal ones
        quintiles = 5 - pd.qcut(pd.Series(scores).rank(method="first"), 5, labels=False)
        assert arguments.ratings_from_scores(scores) == quintiles.tolist()
    assert arguments.ratings_from_scores([0.3]) == [5]
    assert arguments.ratings_from_scores([0.2] * 6) == [5, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("line", ["31\t0.1", "31\t0.1\tThey\tdig.", "31\tbest\tThey dig.", "31\tnan\tThey dig."])
def test_a_line_that_is_not_an_id_a_score_and_a_text_is_named(line):
    assert "dogs_yes.csv, line 4: not an id" in error_of(changed("UKPConvArg1-Ranking-CSV/dogs_yes.csv", DOGS + line))


WRONG_XML = [
    (xml(pair("arg21", "99", "a1", Ann="a1")), "argument '99' is not in UKPConvArg1-Ranking-CSV"),
    (xml(pair("arg21", "", "a1", Ann="a1")), "argument '' is not in UKPConvArg1-Ranking-CSV"),
    ('<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><list>&b;</list>', "declares a document type"),
    ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><list></list>', "declares a document type"),
    ("<list><annotatedArgumentPair></list>", "not readable XML (mismatched tag: line 1"),
]


@pytest.mark.parametrize(("content", "says"), WRONG_XML)
def test_xml_that_is_broken_or_refers_to_something_else_is_named(content, says):
    assert f"dogs_yes.xml: {says}" in error_of(changed("UKPConvArg1-full-XML/dogs_yes.xml", content))


@pytest.mark.parametrize("folder", ["UKPConvArg1-Ranking-CSV", "UKPConvArg1-full-XML"])
def test_a_missing_folder_another_file_and_an_argument_that_occurs_twice_are_named(folder):
    files = {name: text for name, text in FILES.items() if folder not in name}
    message = error_of(zip_of({**files, f"{folder}.tar.gz": "an archive"}))
    assert f"the zip holds no {folder}/" in message
    assert "--zip FILE" in message
    assert "not a readable zip" in error_of(b"<html>not found</html>")
    assert "argument 'arg21' occurs twice" in error_of(changed("UKPConvArg1-Ranking-CSV/cats.csv", DOGS))
