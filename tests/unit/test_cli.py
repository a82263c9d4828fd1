"""The command line: every option reaches its field, and every mistake is one line with the way out."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from noisy_feedback import cli
from noisy_feedback.config import LABELS, LOSSES, NOISES, PROTOCOLS, RATIOS, SEEDS, Config
from tests.conftest import ROOT

SCRIPTS = {"main.py": cli.run_main, "config.py": cli.run_config}


@pytest.fixture
def parse(monkeypatch):
    """Call a script's parser; returns the Sweep of config.py, or the Config of main.py."""

    def parse(script, *arguments, protocol="multiclass"):
        found = []
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        monkeypatch.setattr("noisy_feedback.experiment.run", found.append)
        monkeypatch.setattr("noisy_feedback.sweep.run_sweep", found.append)
        assert SCRIPTS[script](protocol) == 0
        return found[0]

    return parse


@pytest.fixture
def refusal(monkeypatch, capsys):
    """The one line with which a script refuses its arguments."""

    def refusal(script, *arguments, protocol="multiclass"):
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        with pytest.raises(SystemExit, match="2"):
            SCRIPTS[script](protocol)
        captured = capsys.readouterr()
        (line,) = captured.err.splitlines()
        assert captured.out == ""
        assert line.startswith(f"{script}: error: ")
        assert line.endswith(" (see --help)")
        return line

    return refusal


def axis_values(sweep, axis):
    return sorted({getattr(run, axis) for run in sweep.runs})


# --- defaults and options


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_main_without_options_takes_the_protocols_defaults(parse, protocol):
    assert parse("main.py", protocol=protocol) == Config(protocol, **PROTOCOLS[protocol]["main.py"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_config_without_options_takes_the_studys_seeds_and_its_ratios_where_ratings_are_made_noisy(parse, protocol):
    ratios = [0.0] if protocol == "human" else RATIOS
    sweep = parse("config.py", protocol=protocol)
    default = Config(protocol, **PROTOCOLS[protocol]["config.py"])
    assert set(sweep.runs) == {replace(default, seed=seed, ratio=ratio) for seed in SEEDS for ratio in ratios}
    assert len(sweep.runs) == len(SEEDS) * len(ratios)
    assert sweep.dask is None


OPTIONS = {
    "--use-cuda": {"use_cuda": True},
    "--path a.csv": {"path": Path("a.csv")},
    "--model_name bert": {"model_name": "bert"},
    "--pc": {"pc": True},
    "--ratio 1": {"ratio": 1.0},
    "--k 3": {"k": 3},
    "--epochs-t 0": {"epochs_t": 0},
    "--epochs-f 0": {"epochs_f": 0},
    "--seed 4294967295": {"seed": 2**32 - 1},
    "--loss hinge": {"loss": "hinge"},
    "--kl-weight 0.5": {"kl_weight": 0.5},
    "--noise reversed": {"noise": "reversed"},
    "--loss robust --flip-rate 0.2": {"loss": "robust", "flip_rate": 0.2},
    "--loss robust --flip-rate estimated": {"loss": "robust", "flip_rate": "estimated"},
    "--lists 50": {"lists": 50},
    "--lists-per-review 3": {"lists_per_review": 3},
    "--lr-f 0.1": {"lr_f": 0.1},
    "--batch-f 7": {"batch_f": 7},
    "--lr-t 0.1": {"lr_t": 0.1},
    "--batch-t 7": {"batch_t": 7},
    "--hidden 8 4 2": {"hidden": (8, 4, 2)},
    "--select kappa": {"select": "kappa"},
    "--text-column T": {"text_column": "T"},
    "--rating-column R": {"rating_column": "R"},
    "--group-column G": {"group_column": "G"},
    "--shuffle": {"shuffle": True},
    "--drop-empty": {"drop_empty": True},
    "--drop-duplicates": {"drop_duplicates": True},
    "--pooling cls": {"pooling": "cls"},
    "--output out": {"output": Path("out")},
    "--name mine": {"name": "mine"},
    "--export a.jsonl": {"export": Path("a.jsonl")},
}


@pytest.mark.parametrize("given", OPTIONS)
def test_an_option_sets_its_field_and_no_other(parse, given):
    assert parse("main.py", *given.split()) == replace(Config("multiclass"), **OPTIONS[given])


def test_a_sweep_holds_every_combination_once_in_one_order(parse):
    arguments = ["--loss", "hinge", "study", "--kl-weight", 0.5, 0, "--noise", "reversed", "uniform"]
    first = parse("config.py", *arguments, "--seeds", 2, 1, 2, "--ratio", 0.4, 0)
    second = parse("config.py", *reversed_values(arguments), "--ratio", 0, 0.4, 0.4, "--seeds", 1, 2)
    assert first.runs == second.runs
    assert len(set(first.runs)) == len(first.runs) == 2**5


def reversed_values(arguments):
    """Options with two values each, the values in the other order."""
    triples = zip(arguments[::3], arguments[1::3], arguments[2::3], strict=True)
    return [part for option, one, other in triples for part in (option, other, one)]


def test_a_cluster_is_named_by_its_address(parse):
    assert parse("config.py", "--dask", "tcp://host:8786").dask == "tcp://host:8786"


# --- comparisons that people made

HUMAN_OPTIONS = {
    "--comparisons c.csv": {"comparisons": Path("c.csv")},
    "--labels majority": {"labels": "majority"},
    "--ratio 0.5": {"ratio": 0.5},
    "--loss study": {"loss": "study"},
    "--kl-weight 0": {"kl_weight": 0.0},
    "--flip-rate 0.25": {"flip_rate": 0.25},
    "--flip-rate estimated": {},
    "--lists 9": {"lists": 9},
    "--group-column Topic": {"group_column": "Topic"},
    "--export c.parquet": {"export": Path("c.parquet")},
}


@pytest.mark.parametrize("given", HUMAN_OPTIONS)
def test_an_option_of_comparisons_by_people_sets_its_field_and_no_other(parse, given):
    default = Config("human", **PROTOCOLS["human"]["main.py"])
    assert parse("main.py", *given.split(), protocol="human") == replace(default, **HUMAN_OPTIONS[given])


def test_comparisons_of_people_are_noisy_as_they_are_and_their_flip_rate_is_estimated(parse):
    for run in (parse("main.py", protocol="human"), parse("config.py", protocol="human").config):
        assert (run.loss, run.noise, run.ratio, run.flip_rate) == ("bradley-terry", "reversed", 0.0, "estimated")


def test_the_flip_rate_of_simulated_noise_is_what_the_noise_implies(parse):
    assert parse("main.py").flip_rate is None


def test_a_sweep_holds_every_kind_of_labels_in_their_order(parse):
    given = ["majority", "all", "gold"]
    sweep = parse("config.py", "--labels", *given, "--seeds", 1, "--ratio", 0.2, 0, protocol="human")
    assert [(run.labels, run.ratio) for run in sweep.runs] == [
        (labels, ratio) for labels in ("all", "majority", "gold") for ratio in (0.0, 0.2)
    ]


def test_labels_that_do_not_exist_are_answered_with_those_that_do(refusal):
    line = refusal("main.py", "--labels", "golden", protocol="human")
    assert "argument --labels: invalid choice: 'golden'" in line
    assert all(name in line for name in LABELS)


@pytest.mark.parametrize("option", ["--noise", "--k", "--as-published", "--lists-per-review"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_what_makes_feedback_from_ratings_is_unknown_where_people_gave_it(refusal, script, option):
    assert f"unknown argument {option}" in refusal(script, option, protocol="human")


@pytest.mark.parametrize("option", ["--comparisons", "--labels"])
@pytest.mark.parametrize("protocol", ["multiclass", "binary"])
def test_comparisons_of_people_are_unknown_where_they_are_simulated(refusal, protocol, option):
    assert f"unknown argument {option}" in refusal("main.py", option, "all", protocol=protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_sweep_exports_nothing(refusal, protocol):
    assert "unknown argument --export" in refusal("config.py", "--export", "a.jsonl", protocol=protocol)


def test_a_flip_rate_of_one_half_is_refused_and_an_estimated_one_is_not_known_yet(refusal, parse):
    line = refusal("main.py", "--loss", "robust", "--flip-rate", 0.5, protocol="human")
    assert "--flip-rate 0.5: --loss robust needs one below 0.5" in line
    assert parse("main.py", "--loss", "robust", protocol="human").flip_rate == "estimated"


def test_loss_and_kl_weight_of_a_scalar_head_are_those_of_the_protocol(parse):
    config = parse("main.py", "--head", "scalar", protocol="human")
    assert (config.loss, config.kl_weight) == ("bradley-terry", 1.0)


@pytest.mark.parametrize("script", ["main.py", "config.py"])
def test_help_names_the_labels_and_the_defaults_where_people_compare(script):
    command = [sys.executable, script, "--help"]
    ran = subprocess.run(command, cwd=ROOT / "human", capture_output=True, text=True, check=True)
    text = " ".join(ran.stdout.split())
    assert "{all,one,majority,gold,flipped}" in text
    assert "share of comparisons reversed, 0 to 1 (default: " in text
    assert "(default: bradley-terry)" in text
    assert "what the audit finds (default: estimated)" in text
    assert "(default: None)" not in text


# --- heads and the published code


def test_a_scalar_head_alone_learns_by_bradley_terry(parse):
    assert parse("main.py", "--head", "scalar").loss == "bradley-terry"
    assert axis_values(parse("config.py", "--head", "scalar"), "loss") == ["bradley-terry"]


@pytest.mark.parametrize("needing", [["--loss", "study"], ["--noise", "least-confident"]], ids=lambda given: given[0])
@pytest.mark.parametrize("script", SCRIPTS)
def test_what_needs_a_distribution_is_refused_with_a_scalar_head(refusal, script, needing):
    line = refusal(script, "--head", "scalar", *needing)
    assert f"{needing[0]} {needing[1]} needs a distribution over ratings" in line
    assert "--head categorical" in line


def test_as_published_alone_repeats_every_departure(parse):
    multiclass, binary = (
        parse("main.py", "--as-published", protocol=protocol) for protocol in ("multiclass", "binary")
    )
    departures = {"validation_ratings": "misaligned", "list_order": "row"}
    assert multiclass == replace(Config("multiclass"), noise="redrawn", **departures)
    assert binary == replace(
        Config("binary", **PROTOCOLS["binary"]["main.py"]), noise="redrawn-off-scale", **departures
    )


def test_as_published_repeats_the_departures_that_are_named(parse):
    config = parse("main.py", "--as-published", "order", "--noise", "adjacent")
    assert config == replace(Config("multiclass"), list_order="row", noise="adjacent")


@pytest.mark.parametrize("named", [[], ["noise"], ["order", "noise"]])
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_published_noise_and_another_one_are_refused(refusal, script, named):
    line = refusal(script, "--noise", "uniform", "--as-published", *named)
    assert "--noise: --as-published noise chooses the kind of noise; leave out one of them" in line


# --- refused values

WRONG = {
    "--ratio 1.5": "argument --ratio: 1.5 is outside 0..1 (0.2 for 20 %)",
    "--ratio nan": "argument --ratio: nan is outside 0..1",
    "--ratio 0,2": "argument --ratio: '0,2' is not a number; separate several by spaces",
    "--k 2.5": "argument --k: '2.5' is not a whole number",
    "--k 1,2": "argument --k: '1,2' is not a whole number; separate several by spaces",
    "--lists 0": "argument --lists: 0 is less than 1",
    "--lists-per-review 0": "argument --lists-per-review: 0 is less than 1",
    "--flip-rate guessed": "argument --flip-rate: 'guessed' is not a number",
    "--lr-f 0": "argument --lr-f: 0 is not a positive number",
    "--lr-f inf": "argument --lr-f: inf is not a positive number",
    "--kl-weight=-1": "argument --kl-weight: -1 is not a number from 0 on",
    "--kl-weight inf": "argument --kl-weight: inf is not a number from 0 on",
    "--flip-rate 2": "argument --flip-rate: 2 is outside 0..1",
    "--loss robust --flip-rate 0.5": "--flip-rate 0.5: --loss robust needs one below 0.5",
    "--select f1": "argument --select: invalid choice: 'f1'",
    "--name a/b": "--name a/b: a name without slashes; --output chooses the folder around it",
    "--name ..": "--name ..: ",
    "--name .": "--name .: ",
}


@pytest.mark.parametrize("given", WRONG)
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_wrong_value_is_named(refusal, script, given):
    assert WRONG[given] in refusal(script, *given.split())


@pytest.mark.parametrize(("script", "option"), [("main.py", "--seed"), ("config.py", "--seeds")])
@pytest.mark.parametrize("value", [2**32, 10**30])
def test_seeds_that_could_repeat_the_numbers_of_another_are_refused(refusal, script, option, value):
    assert f"argument {option}: {value} is not below 4294967296" in refusal(script, option, value)


def test_binary_pairs_have_no_k(refusal):
    assert "unknown argument --k" in refusal("main.py", "--k", 2, protocol="binary")


# --- old names and near misses

RENAMED = {
    "--loss conservative": "conservative is now called label-smoothing",
    "--loss unbiased": "unbiased is now called robust",
    "--loss sigmoid": "sigmoid is now called symmetric-sigmoid",
    "--noise pairs": "pairs is now called reversed",
    "--noise hard": "hard is now called least-confident",
    "--anchor 0.5": "unknown argument --anchor; it is now --kl-weight",
    "--anchor=0.5": "unknown argument --anchor=0.5; it is now --kl-weight",
    "--rerun folder": "unknown argument --rerun; it is now python -m noisy_feedback.reproduce FOLDER",
}


@pytest.mark.parametrize("given", RENAMED)
@pytest.mark.parametrize("script", SCRIPTS)
def test_an_old_name_is_answered_with_the_new_one(refusal, script, given):
    assert RENAMED[given] in refusal(script, *given.split())


NEAR = {
    ("main.py", "--model-name bert"): "--model_name",
    ("main.py", "--epochs_t 3"): "--epochs-t",
    ("main.py", "--epoch-t=3"): "--epochs-t",
    ("main.py", "--seeds 1"): "--seed",
    ("main.py", "--use_cuda"): "--use-cuda",
    ("main.py", "--ratios 0.1"): "--ratio",
    ("config.py", "--seed 1"): "--seeds",
    ("config.py", "--kl_weight 1"): "--kl-weight",
}


@pytest.mark.parametrize(("script", "given"), NEAR)
def test_a_near_miss_is_answered_with_the_option_that_was_meant(refusal, script, given):
    assert f"; did you mean {NEAR[script, given]}?" in refusal(script, *given.split())


@pytest.mark.parametrize(
    ("option", "given", "meant"), [("--loss", "bradley", "bradley-terry"), ("--noise", "unifrom", "uniform")]
)
def test_a_misspelt_loss_or_noise_is_answered_with_all_names_and_the_nearest(refusal, option, given, meant):
    line = refusal("main.py", option, given)
    names = LOSSES if option == "--loss" else NOISES
    assert f"argument {option}: {given!r} is none of {', '.join(names)}; did you mean {meant}?" in line


def test_an_unknown_argument_that_is_near_to_none_gets_no_hint(refusal):
    assert refusal("main.py", "--xyz") == "main.py: error: unknown argument --xyz (see --help)"


def test_options_are_not_abbreviated(refusal):
    assert "unknown argument --rat; did you mean --ratio?" in refusal("main.py", "--rat", 0.2)


# --- what is imported


def test_importing_the_command_line_imports_nothing_heavy():
    program = "import noisy_feedback.cli, noisy_feedback, sys; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "noisy_feedback.config" in modules
    assert not {"torch", "numpy", "pandas", "scipy", "matplotlib", "sentence_transformers"} & set(modules)


# --- --help


@pytest.fixture(scope="module", params=["multiclass/main.py", "multiclass/config.py", "binary/main.py"])
def help_text(request):
    file = ROOT / request.param
    command = [sys.executable, file.name, "--help"]
    return subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=True).stdout


def test_help_shows_the_defaults_that_say_something(help_text):
    text = " ".join(help_text.split())
    assert re.search(r"share of fine-tuning ratings made noisy, 0 to 1 \(default: (0\.0|\(0\.0, 0\.2, .*\))\)", text)
    assert "(default: None)" not in text
    assert "(default: ())" not in text
    assert "(default: False)" not in text


def test_help_lists_the_studys_options_first(help_text):
    listed = list(dict.fromkeys(re.findall(r"^  (--[\w-]+)", help_text, re.MULTILINE)))
    study = ["--use-cuda", "--path", "--model_name", "--pc", "--ratio", "--k", "--epochs-t", "--epochs-f"]
    if "--k" not in listed:  # binary
        study.remove("--k")
    assert listed[: len(study)] == study
    assert {"--seed", "--seeds"} & set(listed[len(study) :])


def test_help_names_every_loss_and_kind_of_noise(help_text):
    text = " ".join(help_text.split())
    assert ", ".join(LOSSES) in text
    assert ", ".join(NOISES) in text
