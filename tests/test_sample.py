import importlib.util
from collections import Counter
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def make_sample():
    spec = importlib.util.spec_from_file_location("make_sample", DATA / "make_sample.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reviews(make_sample):
    return make_sample.make_reviews()


def test_the_bundled_file_is_what_the_generator_writes(make_sample, reviews):
    assert make_sample.to_csv(reviews) == (DATA / "sample_hotel_reviews.csv").read_bytes()


def test_ratings_have_the_shares_of_the_tripadvisor_data_set(reviews):
    counts = Counter(rating for _, rating in reviews)
    tripadvisor = {1: 1421, 2: 1793, 3: 2184, 4: 6039, 5: 9054}
    for rating, count in tripadvisor.items():
        assert counts[rating] == pytest.approx(len(reviews) * count / 20491, abs=1)


def test_another_seed_gives_other_reviews(make_sample, reviews):
    assert make_sample.make_reviews(rows=10, seed=1) != make_sample.make_reviews(rows=10, seed=2)
