"""Human comparisons alone are split so that nothing of the validation and the test part is learned from."""

from pathlib import Path

import numpy as np
import pytest

from noisy_feedback.config import Config
from noisy_feedback.data.splits import FINE_TUNING, LEFT_OUT, TEST, TRAINING, VALIDATION, split_alone
from noisy_feedback.errors import InputError
from tests.conftest import judgements_of

LEARNED = [TRAINING, FINE_TUNING]


def alone(split="groups", **options):
    return Config("human", path=None, comparisons=Path("c.csv"), head="scalar", loss="hinge", split=split, **options)


def random_judgements(texts, count, seed=0, **more):
    rng = np.random.default_rng(seed)
    chosen = rng.integers(texts, size=count)
    return judgements_of(np.stack([chosen, (chosen + rng.integers(1, texts, size=count)) % texts], axis=1), **more)


EITHER = pytest.mark.parametrize("options", [{}, {"shuffle": True, "seed": 3}], ids=["in order", "shuffled"])


@EITHER
@pytest.mark.parametrize("kind", ["groups", "connected texts"])
def test_a_group_is_in_one_part_and_the_parts_have_their_shares(kind, options):
    numbers = np.random.default_rng(1).integers(50, size=1000)
    given = {"groups": numbers} if kind == "groups" else {}
    own = 2 * numbers  # texts of a group: two for each
    judgements = judgements_of(np.stack([own + np.arange(1000) % 2, own + 1 - np.arange(1000) % 2], axis=1), **given)
    parts = split_alone(alone(**options), judgements)
    assert all(len(set(parts[numbers == number])) == 1 for number in range(50))
    shares = np.bincount(parts, minlength=4) / 1000
    assert np.abs(shares - [0.4, 0.1, 0.4, 0.1]).max() < 0.05  # training, validation, fine-tuning, test


def test_one_large_group_is_refused_with_both_ways_out_and_what_they_cost():
    judgements = random_judgements(30, 500)
    unused = (split_alone(alone("texts"), judgements) == LEFT_OUT).mean()
    says = rf"500 of 500 comparisons are in one group .* leaves out {unused:.0%} of .*--split comparisons"
    with pytest.raises(InputError, match=says):
        split_alone(alone(), judgements)
    for split, what in (("groups", "groups"), ("texts", "comparisons")):
        with pytest.raises(InputError, match=rf"^judged.csv: too few {what} \(3\): the .* part is empty"):
            split_alone(alone(split), judgements_of([(0, 1), (2, 3), (4, 5)]))


@EITHER
def test_no_text_of_validation_or_test_is_in_another_part_where_texts_are_split(options):
    judgements = random_judgements(60, 3000)
    parts = split_alone(alone("texts", **options), judgements)
    texts = {part: {*judgements.chosen[parts == part], *judgements.rejected[parts == part]} for part in range(4)}
    for part in (VALIDATION, TEST):
        assert not texts[part] & set.union(*(texts[other] for other in range(4) if other != part))
    # Of two texts that are drawn anew, both are of the 80 % that are learned from, or both of one of the 10 %.
    assert np.isin(parts, LEARNED).mean() == pytest.approx(0.8**2, abs=0.03)
    assert (parts == TRAINING).mean() == pytest.approx(0.8**2 / 2, abs=0.03)
    assert (parts == LEFT_OUT).mean() == pytest.approx(1 - 0.8**2 - 2 * 0.1**2, abs=0.03)
    of_pair = dict(zip(judgements.pairs.tolist(), parts.tolist(), strict=True))
    assert all(of_pair[pair] == part for pair, part in zip(judgements.pairs.tolist(), parts.tolist(), strict=True))


def test_judgements_of_a_pair_stay_together_where_comparisons_are_split_and_all_are_used():
    judgements = random_judgements(40, 2000)
    parts = split_alone(alone("comparisons", shuffle=True), judgements)
    assert (parts != LEFT_OUT).all()
    assert all(len(set(parts[judgements.pairs == pair])) == 1 for pair in set(judgements.pairs.tolist()))
    assert (parts != split_alone(alone("comparisons", shuffle=True, seed=1), judgements)).any()
