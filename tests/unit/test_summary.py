"""What is counted about judgements agrees with counts by hand and with simulated annotators."""

import numpy as np
import pytest

from noisy_feedback.data.preferences import components
from noisy_feedback.data.summary import summarize, summary_lines
from tests.conftest import judgements_of


def test_a_summary_counts_what_there_is():
    orders = [(0, 1), (1, 0), (0, 1), (2, 3), (3, 2), (7, 8), (9, 1)]
    more = {"annotators": np.array([0, 1, 0, 1, 0, 0, 1]), "annotator_names": ["al", "bo"]}
    prompts = np.array([0, 0, 0, 1, 1, 2, 0])
    found = summarize(judgements_of(orders, prompts=prompts, dropped={"tied": 3}, unused=["turn", "language"], **more))
    assert found == {
        "comparisons": 7,
        "pairs": 4,
        "texts": 7,
        "annotators": 2,
        "prompts": 3,
        "repeated_pairs": 2,
        "disagreement": 3 / 4,  # two of three pairs of judgements, and the only one
        "implied_flip_rate": 0.5,  # more cannot be explained by independent errors
        "largest_group": 4 / 7,
        "cut_alike": 0,
        "dropped": {"tied": 3},
        "unused_columns": ["turn", "language"],
    }
    assert summary_lines(found) == [
        "           7 texts, 3 prompts; largest group: 57.1% of the comparisons",
        "           2 pairs were judged more than once: two judgements disagree in 75.0%",
        "           of cases, as if 50.0% were wrong independently",
        "           left out: 3 tied",
        "           columns that are not used: turn, language",
    ]


def test_without_repeated_judgements_nothing_is_said_of_noise():
    found = summarize(judgements_of([(0, 1), (2, 1)]))
    counted = [found[name] for name in ("disagreement", "implied_flip_rate", "annotators", "prompts")]
    assert counted == [None, None, None, 0]
    assert summary_lines(found) == ["           3 texts, no prompts; largest group: 100.0% of the comparisons"]


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_the_implied_flip_rate_is_the_share_of_independent_errors(rate):
    rng = np.random.default_rng(1)
    judgements = rng.integers(1, 6, 20_000)  # of each pair
    wrong = rng.random(judgements.sum()) < rate
    better = np.repeat(2 * np.arange(len(judgements)), judgements)
    found = summarize(judgements_of(list(zip(better + wrong, better + 1 - wrong, strict=True))))
    assert found["implied_flip_rate"] == pytest.approx(rate, abs=0.01)


def test_components_are_what_can_be_reached_over_shared_texts():
    chosen, rejected = np.random.default_rng(2).integers(0, 200, (2, 70))
    groups = components(chosen, rejected)
    reached = np.eye(200, dtype=bool)
    reached[chosen, rejected] = reached[rejected, chosen] = True
    for _ in range(8):  # paths of up to 2**8 steps
        reached = reached @ reached
    assert np.array_equal(groups[:, None] == groups, reached[np.ix_(chosen, chosen)])
    assert 1 < len(np.unique(groups)) < 70
    assert (np.diff(np.unique(groups, return_index=True)[1]) > 0).all()  # numbered in the order of the rows
