import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisy_feedback.config import Config
from noisy_feedback.errors import InputError
from noisy_feedback.feedback.comparisons import build_lists, build_pairs
from noisy_feedback.feedback.protocols import DifferentRatings, Judged, StarGap, protocol_of

SCALES = (np.arange(1, 6), np.array([1, 2]), np.array([0, 3, 6]), np.array([1, 4]), np.arange(10))
PROTOCOLS = (StarGap(), StarGap(gap=1), Judged(), *(DifferentRatings(k) for k in (1, 2, 4, 9)))


def test_a_configuration_names_its_protocol():
    assert protocol_of(Config("multiclass", k=3)) == DifferentRatings(3)
    assert protocol_of(Config("binary")) == StarGap(3)
    assert protocol_of(Config("human", labels="one")) == Judged(labels="one")


def test_multiclass_builds_lists_of_different_ratings():
    ratings, scale = np.arange(60) % 5, np.arange(1, 6)
    found = DifferentRatings(2).build(ratings, scale, np.random.default_rng(0))
    assert (found == build_lists(ratings, 2, 5, np.random.default_rng(0))).all()


def test_binary_builds_pairs_by_stars_and_not_by_classes():
    ratings, scale = np.array([0, 1, 2, 2, 1]), np.array([1, 2, 5])  # classes 1 and 2 are three stars apart
    pairs = StarGap().build(ratings, scale, np.random.default_rng(0))
    assert sorted(ratings[pairs].tolist()) == [[2, 1], [2, 1]]
    assert (pairs == build_pairs(scale[ratings], scale, 3, np.random.default_rng(0))).all()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(scale=st.sampled_from(SCALES), chosen=st.lists(st.integers(0, 9), max_size=8))
def test_a_comparison_is_possible_where_building_succeeds(protocol, scale, chosen):
    ratings = np.array([c for c in chosen if c < len(scale)], dtype=np.int64)
    try:
        found = len(protocol.build(ratings, scale, np.random.default_rng(0))) > 0
    except InputError:
        found = False
    assert protocol.is_possible(ratings, scale) == found


def test_protocols_say_what_they_compare():
    assert DifferentRatings(3).describe() == "lists of 4 different ratings"
    assert StarGap().describe() == "pairs 3 stars apart"
    assert Judged(labels="gold").describe() == "comparisons that people made (gold)"


def test_folders_of_different_protocols_have_different_names():
    protocols = (StarGap(), Judged(), DifferentRatings(1), DifferentRatings(2), DifferentRatings(12))
    assert len({protocol.file_name_part() for protocol in protocols}) == len(protocols)
