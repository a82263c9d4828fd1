from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from noisy_feedback.config import NOISES, Config
from noisy_feedback.errors import InputError
from noisy_feedback.feedback import noise, simulate
from noisy_feedback.feedback.comparisons import build_lists
from noisy_feedback.feedback.noise import RatedReviews
from noisy_feedback.feedback.simulate import (
    CALIBRATION_DRAWS,
    corrupt_ratings,
    draw_known_pairs,
    find_function,
    has_comparison,
    simulate_feedback,
)
from noisy_feedback.rng import rng_for

SCALE = np.arange(1, 6)


def rated(n=200, ratings=None):
    """Reviews with random ratings, and a model that is of each of them differently sure."""
    rng = np.random.default_rng(0)
    ratings = rng.integers(5, size=n) if ratings is None else np.asarray(ratings)
    return RatedReviews(ratings, 5, [f"review {row}" for row in range(n)], torch.zeros(n, 3), rng.random(n))


def feedback_of(reviews=None, protocol="multiclass", **options):
    return simulate_feedback(Config(protocol, **options), reviews or rated(), SCALE)


@pytest.mark.parametrize("kind", [kind for kind in NOISES if not kind.startswith(("redrawn", "reversed"))])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_feedback_says_how_many_ratings_are_noisy(kind, ratio):
    feedback = feedback_of(noise=kind, ratio=ratio)
    assert (feedback.changed, feedback.total) == (round(ratio * 200), 200)


def test_claimed_ratings_are_the_noisy_ones_best_first():
    reviews, config = rated(), Config("multiclass", k=2, ratio=0.4)
    feedback = simulate_feedback(config, reviews, SCALE)
    noisy = corrupt_ratings(config, reviews, rng_for(config.seed, "noise"))
    assert (feedback.ratings == noisy[feedback.lists]).all()
    assert (np.diff(feedback.ratings, axis=1) < 0).all()


def test_reversed_noise_reverses_the_reviews_and_claims_ratings_that_stay_best_first():
    clean, noisy = (feedback_of(k=2, noise="reversed", ratio=ratio) for ratio in (0.0, 0.3))
    changed = (noisy.lists != clean.lists).any(axis=1)
    assert changed.sum() == noisy.changed == round(0.3 * noisy.total)
    assert noisy.total == len(clean.lists)
    assert (noisy.lists[changed] == clean.lists[changed, ::-1]).all()
    assert (noisy.ratings == clean.ratings).all()
    assert (np.diff(noisy.ratings, axis=1) < 0).all()


@pytest.mark.parametrize("kind", NOISES)
def test_without_noise_every_kind_gives_the_same_comparisons(kind):
    uniform, other = feedback_of(ratio=0.0), feedback_of(noise=kind, ratio=0.0)
    assert (other.lists == uniform.lists).all()
    assert (other.ratings == uniform.ratings).all()
    assert other.changed == 0


@pytest.mark.parametrize("kind", NOISES)
def test_noise_and_comparisons_draw_from_streams_of_their_own(kind, monkeypatch):
    states = []

    def build(config, ratings, scale, rng, build=simulate.build_comparisons):
        states.append(rng.bit_generator.state)
        return build(config, ratings, scale, rng)

    monkeypatch.setattr(simulate, "build_comparisons", build)
    for ratio in (0.0, 0.2, 0.8):
        feedback_of(noise=kind, ratio=ratio, seed=7)
    assert states == [rng_for(7, "comparisons").bit_generator.state] * 3


def test_noise_draws_the_random_numbers_of_its_stream(monkeypatch):
    drawn = []
    monkeypatch.setattr(noise, "uniform", lambda reviews, ratio, rng: drawn.append(rng.random()) or reviews.ratings)
    feedback_of(seed=7, k=1)
    feedback_of(seed=7, k=3)
    assert drawn == [rng_for(7, "noise").random()] * 2


def test_a_kind_of_noise_receives_all_that_is_known_of_the_reviews(monkeypatch):
    reviews, received = rated(), []
    monkeypatch.setattr(noise, "uniform", lambda *given: received.extend(given[:2]) or reviews.ratings.copy())
    feedback_of(reviews, ratio=0.25)
    assert received[0].ratings.tolist() == reviews.ratings.tolist()
    assert all(getattr(received[0], name) is getattr(reviews, name) for name in ("texts", "embeddings", "confidence"))
    assert received[1] == 0.25


WRONG_NOISE = {
    "raises": lambda reviews, ratio, rng: 1 / 0,
    "takes other arguments": lambda ratings: ratings,
    "nothing": lambda reviews, ratio, rng: None,
    "a list": lambda reviews, ratio, rng: reviews.ratings.tolist(),
    "too few": lambda reviews, ratio, rng: reviews.ratings[:-1],
    "two axes": lambda reviews, ratio, rng: reviews.ratings[:, None],
    "floats": lambda reviews, ratio, rng: reviews.ratings.astype(float),
    "booleans": lambda reviews, ratio, rng: reviews.ratings > 2,
    "stars": lambda reviews, ratio, rng: reviews.ratings + 1,
    "too low": lambda reviews, ratio, rng: reviews.ratings - 2,
}


@pytest.mark.parametrize("wrong", WRONG_NOISE.values(), ids=WRONG_NOISE)
def test_a_wrong_noise_function_is_one_line_that_names_it(wrong, monkeypatch):
    wrong.__name__ = "adjacent"
    monkeypatch.setattr(noise, "adjacent", wrong)
    with pytest.raises(InputError) as error:
        feedback_of(noise="adjacent", ratio=0.2)
    assert str(error.value).startswith("--noise adjacent: the function adjacent in noisy_feedback/feedback/noise.py")
    assert "\n" not in str(error.value)


def test_what_a_wrong_noise_function_raises_is_in_the_message(monkeypatch):
    monkeypatch.setattr(noise, "uniform", WRONG_NOISE["raises"])
    with pytest.raises(InputError, match=r"fails: ZeroDivisionError\('division by zero'\)$"):
        feedback_of()


def test_what_a_noise_function_must_return_is_in_the_message(monkeypatch):
    monkeypatch.setattr(noise, "uniform", WRONG_NOISE["floats"])
    with pytest.raises(InputError, match=r"must return an array of 200 classes, 0 to 4$"):
        feedback_of()


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint8, np.uint64])
def test_a_noise_function_may_return_any_whole_numbers(dtype, monkeypatch):
    monkeypatch.setattr(noise, "uniform", lambda reviews, ratio, rng: reviews.ratings.astype(dtype))
    feedback = feedback_of()
    assert feedback.ratings.dtype == np.int64  # what torch takes as an index
    assert (feedback.ratings == feedback_of(noise="adjacent").ratings).all()


def test_a_name_without_a_function_is_refused():
    with pytest.raises(InputError, match=r"^--noise no-such: there is no function no_such in fake$"):
        find_function(SimpleNamespace(__name__="fake"), "noise", "no-such")


@pytest.mark.parametrize("protocol", ["multiclass", "binary"])
def test_reviews_with_ratings_off_the_scale_are_in_no_comparison(protocol):
    config, reviews = Config(protocol, noise="redrawn-off-scale", ratio=1.0), rated()
    noisy = corrupt_ratings(config, reviews, rng_for(config.seed, "noise"))
    feedback = simulate_feedback(config, reviews, SCALE)
    assert (noisy < 0).any()
    assert (noisy[feedback.lists] == feedback.ratings).all()
    assert (feedback.ratings >= 0).all()


def test_where_all_ratings_are_off_the_scale_no_comparison_is_possible():
    assert not has_comparison(Config("multiclass"), np.full(9, -1), SCALE)
    assert not has_comparison(Config("binary"), np.array([-1, 0, 4, 4]), SCALE)  # 1 star and 5: four apart
    assert has_comparison(Config("binary"), np.array([-1, 0, 3]), SCALE)


def test_a_limit_keeps_some_of_the_comparisons():
    everything, some = feedback_of(k=2), feedback_of(k=2, lists=7)
    assert len(some.lists) == 7
    assert {*map(tuple, some.lists.tolist())} < {*map(tuple, everything.lists.tolist())}


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_limit_above_what_can_be_made_changes_nothing(rounds):
    limited, everything = (feedback_of(lists=lists, lists_per_review=rounds) for lists in (10_000, None))
    assert (limited.lists == everything.lists).all()


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_limit_keeps_every_comparison_with_the_same_probability(rounds):
    reviews = rated(20, np.arange(20) % 2)  # ten pairs a round
    kept = [feedback_of(reviews, seed=seed, lists=3, lists_per_review=rounds).lists.ravel() for seed in range(600)]
    counts = np.bincount(np.concatenate(kept), minlength=20)
    assert stats.chisquare(counts[::2]).pvalue > 1e-3
    assert stats.chisquare(counts[1::2]).pvalue > 1e-3


def test_in_row_order_lists_hold_the_same_reviews_as_they_stand_in_the_file():
    by_rating, by_row = (feedback_of(k=2, ratio=0.4, list_order=order) for order in ("rating", "row"))
    assert (by_row.lists == np.sort(by_rating.lists, axis=1)).all()
    assert (by_row.lists != by_rating.lists).any()
    assert (np.sort(by_row.ratings, axis=1) == np.sort(by_rating.ratings, axis=1)).all()


def test_the_same_seed_gives_the_same_feedback_and_another_seed_another():
    first, same, other = (feedback_of(ratio=0.4, seed=seed) for seed in (1, 1, 2))
    assert (first.lists == same.lists).all()
    assert first.lists.tolist() != other.lists.tolist()


def test_ratings_that_allow_no_comparison_are_refused():
    with pytest.raises(InputError, match="no list of 2 different ratings can be made: only 1 occur"):
        feedback_of(rated(20, np.zeros(20, dtype=int)))


# --- what is wrong


def wrong_of(ratings, lists):
    """Neighbours whose first has the lower true rating, list by list."""
    return [
        [np.nan if ratings[a] == ratings[b] else float(ratings[a] < ratings[b]) for a, b in pairwise(row)]
        for row in lists.tolist()
    ]


@pytest.mark.parametrize("protocol", ["multiclass", "binary"])
@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("order", ["rating", "row"])
def test_a_comparison_is_wrong_where_the_true_ratings_say_the_opposite(protocol, kind, order):
    reviews = rated()
    found = feedback_of(reviews, protocol=protocol, noise=kind, ratio=0.5, list_order=order)
    assert np.array_equal(found.wrong, wrong_of(reviews.ratings, found.lists), equal_nan=True)


def test_without_noise_nothing_is_wrong():
    assert (feedback_of(k=3).wrong == 0).all()


def test_reversed_lists_are_all_wrong():
    assert (feedback_of(k=3, noise="reversed", ratio=1.0).wrong == 1).all()


# --- lists per review


@pytest.mark.parametrize("options", [{"k": 1}, {"k": 2}, {"protocol": "binary"}])
@pytest.mark.parametrize("rounds", [2, 5])
def test_lists_are_drawn_as_often_as_asked_for_and_a_review_is_in_at_most_so_many(options, rounds):
    once, several = feedback_of(**options), feedback_of(lists_per_review=rounds, **options)
    assert len(several.lists) == rounds * len(once.lists)
    assert np.unique(several.lists, return_counts=True)[1].max() == rounds


def test_a_review_is_in_a_list_once():
    lists = np.sort(feedback_of(k=3, lists_per_review=4).lists, axis=1)
    assert (np.diff(lists, axis=1) > 0).all()


def test_the_first_round_is_what_one_round_alone_draws():
    once, several = feedback_of(ratio=0.4), feedback_of(ratio=0.4, lists_per_review=3)
    first = slice(len(once.lists))
    assert (several.lists[first] == once.lists).all()
    assert (several.ratings[first] == once.ratings).all()
    assert several.lists[len(once.lists) :].tolist() != 2 * once.lists.tolist()


def test_one_round_is_what_the_protocol_builds_from_its_stream():
    reviews = rated()
    expected = build_lists(reviews.ratings, 2, 5, rng_for(84, "comparisons"))
    assert (feedback_of(reviews, k=2).lists == expected).all()


def test_a_limit_that_one_round_could_fill_keeps_lists_of_every_round_alike():
    reviews, kept = rated(2000), []
    for seed in range(20):
        everything = feedback_of(reviews, seed=seed, lists_per_review=4).lists.tolist()
        some = feedback_of(reviews, seed=seed, lists_per_review=4, lists=100).lists.tolist()
        place = {tuple(found): number for number, found in enumerate(everything)}
        kept += [4 * place[tuple(found)] // len(everything) for found in some]
    assert len(kept) == 20 * 100
    assert stats.chisquare(np.bincount(kept, minlength=4)).pvalue > 1e-3


# --- pairs whose order is known


def known_pairs(ratings, protocol="multiclass", scale=SCALE, **options):
    return draw_known_pairs(Config(protocol, **options), np.asarray(ratings), scale, np.random.default_rng(0))


@pytest.mark.parametrize("protocol", ["multiclass", "human"])
def test_known_pairs_have_different_ratings_the_better_first(protocol):
    ratings = rated().ratings
    better, worse = ratings[known_pairs(ratings, protocol)].T
    assert (better > worse).all()
    assert {*zip(better.tolist(), worse.tolist(), strict=True)} == {(a, b) for a in range(5) for b in range(a)}


def test_known_pairs_of_binary_are_three_stars_apart():
    ratings, scale = rated().ratings, np.array([1, 2, 4, 5, 9])
    better, worse = scale[ratings[known_pairs(ratings, "binary", scale)]].T
    assert (better - worse == 3).all()


@pytest.mark.parametrize(("k", "lists"), [(1, 20), (2, 13), (3, 10), (4, 8)])  # of 40 reviews, each in one list
def test_as_many_known_pairs_are_drawn_as_the_protocol_has_neighbours(k, lists):
    pairs = known_pairs(np.repeat(np.arange(5), 8), k=k)
    assert len(pairs) == CALIBRATION_DRAWS * lists * k
    assert np.unique(pairs, return_counts=True)[1].max() <= min(k, 2) * CALIBRATION_DRAWS


@pytest.mark.parametrize(
    "given", [{"ratings": [2, 2, 2]}, {"ratings": [0, 1, 2], "protocol": "binary"}, {"ratings": [0, 1], "k": 2}]
)
def test_where_nothing_can_be_compared_there_is_no_known_pair(given):
    assert known_pairs(**given).shape == (0, 2)


def test_known_pairs_depend_on_their_generator_alone():
    ratings = rated().ratings
    assert (known_pairs(ratings, seed=1, noise="adjacent", ratio=0.5, lists=3) == known_pairs(ratings, seed=2)).all()
