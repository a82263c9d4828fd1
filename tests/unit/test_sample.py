from collections import Counter

import make_sample
import pytest


@pytest.fixture(scope="module")
def reviews():
    return make_sample.make_reviews()


def test_the_bundled_file_is_what_the_generator_writes(reviews):
    assert make_sample.to_csv(reviews) == make_sample.FILE.read_bytes()


def test_ratings_are_distributed_as_in_the_tripadvisor_data_set(reviews):
    counts = Counter(rating for _, rating in reviews)
    tripadvisor = {1: 1421, 2: 1793, 3: 2184, 4: 6039, 5: 9054}
    for rating, count in tripadvisor.items():
        assert counts[rating] == pytest.approx(len(reviews) * count / 20491, abs=1)


def test_another_seed_gives_other_reviews():
    assert make_sample.make_reviews(rows=10, seed=1) != make_sample.make_reviews(rows=10, seed=2)
