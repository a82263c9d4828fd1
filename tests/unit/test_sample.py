import csv
import io
from collections import Counter

import make_sample
import pytest
from scipy.stats import binom


@pytest.fixture(scope="module")
def reviews():
    return make_sample.make_reviews()


@pytest.fixture(scope="module")
def comparisons(reviews):
    return make_sample.make_comparisons(reviews)


def test_the_bundled_files_are_what_the_generator_writes(reviews, comparisons):
    assert make_sample.to_csv(reviews) == make_sample.FILE.read_bytes()
    assert make_sample.comparisons_to_csv(comparisons) == make_sample.COMPARISONS_FILE.read_bytes()
    assert make_sample.make_reviews(rows=10, seed=1) != make_sample.make_reviews(rows=10, seed=2)


def test_texts_differ_and_ratings_are_distributed_as_in_the_tripadvisor_data_set(reviews):
    assert len({text for text, _ in reviews}) == len(reviews)
    counts = Counter(rating for _, rating in reviews)
    for rating, count in {1: 1421, 2: 1793, 3: 2184, 4: 6039, 5: 9054}.items():
        assert counts[rating] == pytest.approx(len(reviews) * count / 20491, abs=1)


def test_a_judgement_is_correct_where_the_chosen_review_has_the_higher_rating(reviews, comparisons):
    rows = csv.reader(io.StringIO(make_sample.comparisons_to_csv(comparisons).decode()))
    assert next(rows) == ["chosen", "rejected", "annotator", "pair", "correct"]
    ratings = dict(reviews)
    for chosen, rejected, _, _, correct in rows:
        assert ratings[chosen] != ratings[rejected]
        assert correct == str(ratings[chosen] > ratings[rejected])


def test_annotators_are_as_reliable_as_planted(comparisons):
    for annotator, reliability in make_sample.PLANTED_RELIABILITIES.items():
        correct = [judgement[4] for judgement in comparisons if judgement[2] == annotator]
        assert len(correct) >= 100
        low, high = binom.interval(0.999, len(correct), reliability)
        assert low <= sum(correct) <= high, annotator
    assert {judgement[2] for judgement in comparisons} == set(make_sample.PLANTED_RELIABILITIES)


def test_both_reviews_of_a_pair_are_in_one_block_and_none_is_a_training_review(reviews, comparisons):
    rows = {text: row for row, (text, _) in enumerate(reviews)}
    pairs = {pair: (rows[chosen] // 300, rows[rejected] // 300) for chosen, rejected, _, pair, _ in comparisons}
    assert all(chosen == rejected for chosen, rejected in pairs.values())
    assert Counter(300 * block for block, _ in pairs.values()) == {
        1200: 100,  # validation
        **dict.fromkeys((1500, 1800, 2100, 2400), 150),  # fine-tuning
        2700: 100,  # test
    }
