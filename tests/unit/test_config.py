import random
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from noisy_feedback.config import (
    CHOICES,
    COMBINATION,
    DEPARTURES,
    LEAST,
    MAX_SEED,
    NOT_IN_RECORD,
    PROTOCOLS,
    SWEEP_AXES,
    Config,
    grid,
    published_choices,
)
from noisy_feedback.data.dataset import Provenance, ReviewsInfo
from noisy_feedback.data.embeddings import EmbeddingsInfo
from noisy_feedback.errors import InputError
from noisy_feedback.output.records import config_record, identity

CONFIG = Config("multiclass")
OTHER_VALUES = {  # of every field, a valid value that is not the default
    "protocol": "binary",
    "path": Path("elsewhere"),
    "text_column": "Text",
    "rating_column": "Stars",
    "group_column": "Hotel",
    "comparisons": Path("elsewhere"),
    "shuffle": True,
    "drop_empty": True,
    "drop_duplicates": True,
    "model_name": "bert-base-uncased",
    "pooling": "cls",
    "pc": True,
    "use_cuda": True,
    "seed": 1,
    "head": "scalar",
    "hidden": (64, 33),
    "epochs_t": 99,
    "lr_t": 0.02,
    "batch_t": 65,
    "labels": "gold",
    "noise": "adjacent",
    "ratio": 0.2,
    "k": 2,
    "lists": 10,
    "lists_per_review": 2,
    "list_order": "row",
    "loss": "hinge",
    "kl_weight": 0.1,
    "flip_rate": 0.0,
    "epochs_f": 21,
    "lr_f": 2e-3,
    "batch_f": 513,
    "select": "kappa",
    "validation_ratings": "misaligned",
    "output": Path("elsewhere"),
    "name": "mine",
    "export": Path("elsewhere"),
}


@pytest.fixture(scope="module")
def provenance():
    encoder = EmbeddingsInfo(model="m", revision=None, pooling="model", library=None, sha256="0" * 64, device="cpu")
    return Provenance(ReviewsInfo("reviews.csv", 10, [1, 2, 3, 4, 5], "0" * 64), encoder, "cpu")


def test_every_field_is_tried_here():
    assert list(OTHER_VALUES) == [field.name for field in fields(Config)]


@pytest.mark.parametrize("field", OTHER_VALUES)
def test_a_field_changes_the_identity_of_a_result_or_is_said_to_change_no_number(field, provenance):
    changed = replace(CONFIG, **{field: OTHER_VALUES[field]})
    before, after = (identity(config_record(config), provenance) for config in (CONFIG, changed))
    assert (before == after) == (field in NOT_IN_RECORD)


def test_what_changes_no_number_are_fields():
    assert set(NOT_IN_RECORD) < set(OTHER_VALUES)


@pytest.mark.parametrize("field", CHOICES)
def test_every_choice_of_a_field_is_taken_and_no_other(field):
    for value in CHOICES[field]:
        assert getattr(replace(CONFIG, **{field: value}), field) == value
    with pytest.raises(ValueError, match=f"^{field}: 'other' is none of {CHOICES[field][0]}, "):
        replace(CONFIG, **{field: "other"})


@pytest.mark.parametrize("field", LEAST)
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1", True, [1]])
def test_a_number_that_no_option_could_give_is_refused(field, value):
    with pytest.raises(ValueError, match=f"^{field}: .* is not a (whole )?number in range$"):
        replace(CONFIG, **{field: value})


@pytest.mark.parametrize("field", LEAST)
def test_the_least_value_is_in_range(field):
    assert getattr(replace(CONFIG, **{field: LEAST[field]}), field) == LEAST[field]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("k", 0),
        ("k", 1.0),
        ("lists", 0),
        ("lists_per_review", 0),
        ("lists_per_review", None),
        ("flip_rate", "guessed"),
        ("ratio", "estimated"),
        ("epochs_t", 2.5),
        ("batch_f", 0),
        ("hidden", (64, 0)),
        ("hidden", (64, 1.5)),
        ("ratio", 1.1),
        ("flip_rate", 1.1),
        ("seed", MAX_SEED),
        ("seed", None),
    ],
)
def test_a_number_out_of_range_is_refused(field, value):
    with pytest.raises(ValueError, match=f"^{field}: "):
        replace(CONFIG, **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ratio", 1.0),
        ("flip_rate", 1.0),
        ("flip_rate", None),
        ("flip_rate", "estimated"),
        ("lists", None),
        ("hidden", ()),
    ],
)
def test_a_number_at_the_end_of_its_range_is_taken(field, value):
    assert getattr(replace(CONFIG, **{field: value}), field) == value


def test_a_scalar_head_takes_the_robust_loss_only_with_a_kl_penalty():
    with pytest.raises(InputError, match=r"^--head scalar --loss robust: .* falls without limit .* give a --kl-weight"):
        replace(CONFIG, head="scalar", loss="robust")
    replace(CONFIG, head="scalar", loss="robust", kl_weight=0.1)
    replace(CONFIG, loss="robust")


# --- protocols, departures


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("script", ["main.py", "config.py"])
def test_the_defaults_of_every_script_are_a_configuration(protocol, script):
    changes = PROTOCOLS[protocol][script]
    assert all(getattr(Config(protocol, **changes), name) == value for name, value in changes.items())


@pytest.mark.parametrize(("protocol", "noise"), [("multiclass", "redrawn"), ("binary", "redrawn-off-scale")])
def test_the_published_choices_are_those_of_the_published_code(protocol, noise):
    found = published_choices(protocol, DEPARTURES)
    assert found == {"validation_ratings": "misaligned", "noise": noise, "list_order": "row"}
    Config(protocol, **found)


@pytest.mark.parametrize("departure", DEPARTURES)
def test_a_departure_is_one_field_that_differs_from_its_default(departure):
    ((field, value),) = published_choices("multiclass", [departure]).items()
    assert value != getattr(CONFIG, field)


def test_without_departures_nothing_is_chosen():
    assert published_choices("binary", []) == {}


# --- sweeps

AXES = {
    "seed": (84, 2, 42),
    "labels": ("gold", "all"),
    "loss": ("hinge", "study"),
    "kl_weight": (0.5, 0.0),
    "noise": ("reversed", "uniform"),
    "ratio": (0.8, 0.0, 0.2),
}


def test_the_axes_are_fields_and_a_combination_is_the_axes_without_seed_and_ratio():
    assert set(SWEEP_AXES) <= set(OTHER_VALUES) - set(NOT_IN_RECORD)
    assert COMBINATION == ("labels", "loss", "kl_weight", "noise")


def test_a_grid_is_every_combination_of_the_values():
    runs = grid(CONFIG, AXES)
    assert len(runs) == len(set(runs)) == 3 * 2 * 2 * 2 * 2 * 3
    assert {axis: {getattr(run, axis) for run in runs} for axis in SWEEP_AXES} == {a: {*v} for a, v in AXES.items()}
    assert all(replace(run, **{axis: getattr(CONFIG, axis) for axis in SWEEP_AXES}) == CONFIG for run in runs)


def test_a_grid_is_sorted_along_the_axes_labels_losses_and_noises_as_they_are_listed():
    def key(run):
        loss = ("study", "hinge").index(run.loss)
        return (run.seed, run.labels == "gold", loss, run.kl_weight, run.noise == "reversed", run.ratio)

    runs = grid(CONFIG, AXES)
    assert runs == sorted(runs, key=key)


def test_an_axis_that_is_not_named_keeps_its_value():
    runs = grid(CONFIG, {"seed": (5, 6)})
    assert runs == [replace(CONFIG, seed=5), replace(CONFIG, seed=6)]


def test_a_grid_does_not_depend_on_the_order_of_the_values_or_their_repetition():
    rng = random.Random(0)
    for _ in range(5):
        axes = {axis: rng.sample(2 * values, 2 * len(values)) for axis, values in AXES.items()}
        assert grid(CONFIG, axes) == grid(CONFIG, AXES)


def test_a_value_that_is_out_of_range_is_refused_in_a_grid():
    with pytest.raises(ValueError, match=r"^ratio: 1\.5 "):
        grid(CONFIG, AXES | {"ratio": (0.0, 1.5)})


def test_the_configuration_imports_nothing_heavy():
    code = "import sys, noisy_feedback.config; print([m for m in ('numpy', 'pandas', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
