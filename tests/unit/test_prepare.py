"""What cannot work is refused before the long work, in one line that says which run it is."""

import pytest

from noisy_feedback import prepare
from noisy_feedback.config import NOISES, Config, grid
from noisy_feedback.data.reviews import SAMPLE_FILE
from noisy_feedback.errors import InputError
from tests.conftest import write_separable

EVERY_RATING = [1, 2, 3, 4, 5] * 20


@pytest.fixture
def make_config(tmp_path):
    """Configurations on a file with the given ratings."""

    def make_config(ratings=EVERY_RATING, protocol="multiclass", **more):
        return Config(protocol, path=write_separable(tmp_path / "data", ratings), pc=True, **more)

    return make_config


@pytest.fixture
def never_embeds(monkeypatch):
    """No embedding is read or computed."""

    def fail(*_):
        raise AssertionError("the long work has begun")

    monkeypatch.setattr(prepare, "load_embeddings", fail)


def sweep_of(config, **axes):
    values = {"seed": [1], "loss": [config.loss], "kl_weight": [0.0], "noise": [config.noise], "ratio": [0.0]}
    return grid(config, values | axes)


def test_a_data_set_is_read_with_its_embeddings(make_config, capsys):
    dataset = prepare.prepare([make_config()])
    assert dataset.embeddings.shape == (100, 16)
    assert dataset.scale.tolist() == [1, 2, 3, 4, 5]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["reviews", "parts", "warning", "embeddings"]


def test_of_a_folder_the_file_is_named(tmp_path, capsys):
    file = write_separable(tmp_path, EVERY_RATING)
    file.rename(tmp_path / SAMPLE_FILE)
    prepare.load_reviews(Config("multiclass", path=tmp_path))
    assert "running on the bundled sample of made-up reviews" in capsys.readouterr().out


def test_warnings_about_the_data_are_printed(make_config, capsys):
    prepare.prepare([make_config(sorted(EVERY_RATING), k=1, protocol="multiclass")])
    assert "warning    the ratings of the training and the test part differ by" in capsys.readouterr().out


# --- no comparisons


def test_a_k_that_the_scale_has_not_enough_ratings_for_is_refused(make_config, never_embeds):
    with pytest.raises(InputError, match=r"--k 5: .* 6 different ratings, and there are 5; k must be 1 to 4"):
        prepare.prepare([make_config(k=5)])


def test_a_fine_tuning_part_without_comparisons_is_refused(make_config, never_embeds):
    with pytest.raises(InputError, match="--k 2: no list of 3 different ratings can be made"):
        prepare.prepare([make_config([1] * 25 + [2] * 20 + [3] * 50 + [4, 5] * 2, k=2)])


def test_ratings_that_are_never_three_apart_make_no_pairs(make_config, never_embeds):
    with pytest.raises(InputError, match="no pair of ratings exactly 3 stars apart"):
        prepare.prepare([make_config([1, 2, 3] * 30 + [4] * 10, protocol="binary")])


def test_the_run_of_a_sweep_that_cannot_be_made_is_named(make_config, never_embeds):
    with pytest.raises(InputError, match=r"no pair .* \(seed \d+, uniform noise, ratio 0\)"):
        prepare.prepare(sweep_of(make_config([1, 4] + [2, 3] * 11, protocol="binary", shuffle=True), seed=range(9)))


def test_without_fine_tuning_nothing_needs_to_be_comparable(make_config):
    prepare.prepare([make_config(k=5, epochs_f=0)])


# --- flip rates


@pytest.mark.parametrize(
    ("noise", "ratio", "says"),
    [
        ("reversed", 0.5, "--loss robust: a flip rate of 0.5 leaves nothing to learn; it must be below 0.5"),
        ("uniform", 1.0, "--loss robust: a flip rate of .* leaves nothing to learn"),
    ],
)
def test_noise_that_leaves_nothing_to_learn_for_the_robust_loss_is_refused(
    make_config, never_embeds, noise, ratio, says
):
    with pytest.raises(InputError, match=says):
        prepare.prepare([make_config(loss="robust", noise=noise, ratio=ratio)])


def test_the_run_of_a_sweep_with_nothing_to_learn_is_named(make_config, never_embeds):
    runs = sweep_of(make_config(), loss=["study", "robust"], noise=["uniform", "reversed"], ratio=[0.0, 0.6])
    with pytest.raises(InputError, match=r"a flip rate of 0.6 .* \(seed 1, reversed noise, ratio 0.6\)"):
        prepare.prepare(runs)


def test_a_flip_rate_that_is_given_makes_the_robust_loss_possible(make_config):
    prepare.prepare([make_config(loss="robust", noise="reversed", ratio=0.6, flip_rate=0.1)])


@pytest.mark.parametrize("noise", NOISES)
def test_every_kind_of_noise_implies_a_flip_rate_of_its_own(make_config, noise):
    prepare.prepare([make_config(loss="robust", noise=noise, ratio=0.2)])


@pytest.mark.parametrize("loss", ["study", "hinge", "dr-dpo"])
def test_a_flip_rate_that_the_loss_does_not_take_is_refused(make_config, never_embeds, loss):
    with pytest.raises(InputError, match=f"--flip-rate: --loss {loss} takes none; leave it out"):
        prepare.prepare([make_config(loss=loss, flip_rate=0.1)])


def test_a_flip_rate_that_one_loss_of_a_sweep_takes_is_fine(make_config):
    config = make_config(flip_rate=0.1)
    prepare.prepare(sweep_of(config, loss=["study", "robust"]))
