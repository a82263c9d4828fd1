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


def test_annotators_are_as_reliable_as_planted(comparisons):
    for annotator, reliability in make_sample.PLANTED_RELIABILITIES.items():
        correct = [judgement[4] for judgement in comparisons if judgement[2] == annotator]
        assert len(correct) >= 100
        low, high = binom.interval(0.999, len(correct), reliability)
        assert low <= sum(correct) <= high, annotator
    assert {judgement[2] for judgement in comparisons} == set(make_sample.PLANTED_RELIABILITIES)
