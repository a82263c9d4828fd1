"""What a configuration takes; a grid is every combination, sorted. What is refused: test_cli.py."""

import random
from dataclasses import replace

from noisy_feedback.config import LABELS, LOSSES, NOISES, SWEEP_AXES, Config, grid

CONFIG = Config("multiclass")
AXES = {
    "seed": [84, 2, 42],
    "labels": ["gold", "all"],
    "loss": ["hinge", "study"],
    "kl_weight": [0.5, 0.0],
    "noise": ["reversed", "uniform"],
    "ratio": [0.8, 0.0, 0.2],
}


def test_the_ends_of_ranges_every_name_and_none_where_it_has_a_meaning_are_taken():
    taken = {
        **{"ratio": [0.0, 1.0], "flip_rate": [0.0, 1.0, None, "estimated"], "lists": [1, None], "seed": [0, 2**32 - 1]},
        **{"hidden": [(), (1,)], "epochs_t": [0], "kl_weight": [0.0], "k": [1], "batch_f": [1], "shuffle": [True]},
        **{"loss": LOSSES, "noise": NOISES, "labels": LABELS, "select": ["accuracy", "macro_f1", "kappa"]},
    }
    for field, values in taken.items():
        for value in values:
            assert getattr(replace(CONFIG, **{field: value}), field) == value


def test_an_integer_and_the_same_real_number_are_one_configuration():
    (run,) = {replace(CONFIG, ratio=1, kl_weight=2), replace(CONFIG, ratio=1.0, kl_weight=2.0)}
    assert type(run.ratio) is type(run.kl_weight) is float


def test_a_grid_is_every_combination_sorted_whatever_the_order_of_the_values():
    def key(run):
        loss = ("study", "hinge").index(run.loss)
        return (run.seed, run.labels == "gold", loss, run.kl_weight, run.noise == "reversed", run.ratio)

    runs = grid({**vars(CONFIG), **AXES})
    assert len(runs) == len(set(runs)) == 3 * 2 * 2 * 2 * 2 * 3
    assert runs == sorted(runs, key=key)
    assert {axis: {getattr(run, axis) for run in runs} for axis in SWEEP_AXES} == {a: {*v} for a, v in AXES.items()}
    assert all(replace(run, **{axis: getattr(CONFIG, axis) for axis in SWEEP_AXES}) == CONFIG for run in runs)
    rng = random.Random(0)
    shuffled = {axis: rng.sample(2 * values, 2 * len(values)) for axis, values in AXES.items()}
    assert grid({**vars(CONFIG), **shuffled}) == runs
