"""The command line: every option reaches its field, and every mistake is one line with the way out."""

import re
import subprocess
import sys
from dataclasses import fields, replace
from itertools import product

import pytest

from noisy_feedback import cli
from noisy_feedback.config import LOSSES, NOISES, OPTIONS, PROTOCOLS, RATIOS, SEEDS, Config, default_values, grid
from noisy_feedback.data.dataset import Provenance, ReviewsInfo
from noisy_feedback.data.embeddings import EmbeddingsInfo
from noisy_feedback.options import Numbers
from noisy_feedback.output.records import ResultsFolder
from tests.conftest import ROOT

SCRIPTS = {"main.py": cli.run_main, "config.py": cli.run_config}

WITHOUT_ARGUMENT = {"protocol": "binary", "validation_ratings": "misaligned", "list_order": "row"}
CHANGE_NO_NUMBER = {"use_cuda", "path", "comparisons", "texts", "embeddings", "pc", "output", "name", "export", "dask"}
CHANGE_NO_NUMBER |= {"truncate"}  # the side that was used is in the record of the encoder


def another_value(name):
    """A value of a field that is not its default."""
    values = OPTIONS[name].values
    if isinstance(values, Numbers):
        return (7, 5) if name == "hidden" else 7 if values.kind is int else 0.5
    return values("some.jsonl") if isinstance(values, type) else values[-1]


VALUES = {name: another_value(name) for name in OPTIONS if OPTIONS[name].help}


@pytest.fixture
def parse(monkeypatch):
    """Call a script's parser; returns the runs of config.py, or the Config of main.py."""

    def parse(script, *arguments, protocol="multiclass"):
        found = []
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        monkeypatch.setattr("noisy_feedback.experiment.run", found.append)
        monkeypatch.setattr("noisy_feedback.sweep.run_sweep", lambda runs: found.append(runs))
        assert SCRIPTS[script](protocol) == 0
        return found[0]

    return parse


@pytest.fixture
def refusal(monkeypatch, capsys):
    """The one line with which a script refuses its arguments."""

    def refusal(script, arguments, protocol="multiclass"):
        monkeypatch.setattr(sys, "argv", [script, *arguments.split()])
        with pytest.raises(SystemExit, match="2"):
            sys.exit(SCRIPTS[script](protocol))
        captured = capsys.readouterr()
        (line,) = captured.err.splitlines()
        assert captured.out == ""
        assert line.startswith(f"{script}: error: ")
        return line

    return refusal


# --- options and their fields


def test_an_option_sets_its_field_and_no_other(parse):
    for field, value in VALUES.items():
        # Other protocols lack some options, and their loss needs a distribution.
        protocol = "human" if field == "head" or "human" in OPTIONS[field].protocols else "multiclass"
        script = OPTIONS[field].script or "main.py"
        defaults = grid(default_values(protocol, script))
        alone = {"path": None, "head": "scalar"} if field == "comparisons" else {}
        flag = "--model_name" if field == "model_name" else f"--{field.replace('_', '-')}"
        given = [] if value is True else value if field == "hidden" else [value]
        found = parse(script, flag, *given, protocol=protocol)
        expected = [replace(run, **{field: value}, **alone) for run in defaults]
        assert (found if script == "config.py" else [found]) == expected != defaults, field


def test_a_field_changes_the_identity_of_a_result_unless_it_changes_no_number():
    config = Config("multiclass", loss="bradley-terry")
    encoder = EmbeddingsInfo(model="m", revision=None, pooling="model", library=None, sha256="0" * 64, device="cpu")
    provenance = Provenance(ReviewsInfo("reviews.csv", 10, [1, 2, 3, 4, 5], "0" * 64), encoder, "cpu")
    before = ResultsFolder(config, provenance).identity
    tried = VALUES | WITHOUT_ARGUMENT
    assert set(tried) == {field.name for field in fields(Config)}
    for field, value in tried.items():
        after = ResultsFolder(replace(config, **{field: value}), provenance).identity
        assert (before == after) == (field in CHANGE_NO_NUMBER), field


def test_the_defaults_are_the_studys_and_those_of_human_comparisons(parse):
    for protocol, ratios in {"multiclass": RATIOS, "binary": RATIOS, "human": [0.0]}.items():
        runs = parse("config.py", protocol=protocol)
        assert {(run.seed, run.ratio) for run in runs} == set(product(SEEDS, ratios))
        assert (runs[0].epochs_t, len(runs)) == (30, 5 * len(ratios))
    for run in (parse("main.py", protocol="human"), runs[0]):
        assert (run.loss, run.noise, run.ratio, run.flip_rate) == ("bradley-terry", "reversed", 0.0, "estimated")
    assert parse("main.py").flip_rate is None  # what the noise implies
    assert parse("main.py", "--flip-rate", "estimated").flip_rate == "estimated"
    assert {run.loss for run in parse("config.py", "--head", "scalar")} == {"bradley-terry"}  # where none is named
    human = parse("main.py", "--head", "scalar", protocol="human")
    assert (human.loss, human.kl_weight) == ("bradley-terry", 1.0)


# --- sweeps


def test_a_loss_of_a_sweep_can_have_a_kl_weight_of_its_own(parse):
    def settings(arguments):
        runs = parse("config.py", *arguments.split(), "--seeds", 1, "--ratio", 0.2)
        return [(run.loss, run.kl_weight) for run in runs]

    pairs = "--loss symmetric-sigmoid:0.3 robust:1 robust:1.0 study study:0.5"
    assert settings(pairs) == [("study", 0), ("study", 0.5), ("robust", 1), ("symmetric-sigmoid", 0.3)]
    assert settings(f"{pairs} --kl-weight 0.5 2") == [
        ("study", 0.5), ("study", 2), ("robust", 1), ("symmetric-sigmoid", 0.3)
    ]  # fmt: skip
    assert settings("--head scalar --loss robust:0.1 bradley-terry") == [("bradley-terry", 0), ("robust", 0.1)]


# --- the published code


def test_as_published_repeats_the_departures_that_are_named_and_all_where_none_is(parse):
    for protocol, noise in {"multiclass": "redrawn", "binary": "redrawn-off-scale"}.items():
        default = Config(protocol, **PROTOCOLS[protocol]["main.py"])
        fields = {
            "labels": {"validation_ratings": "misaligned"},
            "noise": {"noise": noise},
            "order": {"list_order": "row"},
        }
        every = {name: value for changes in fields.values() for name, value in changes.items()}
        assert parse("main.py", "--as-published", protocol=protocol) == replace(default, **every)
        for departure, changes in fields.items():
            found = parse("main.py", "--as-published", departure, protocol=protocol)
            assert found == replace(default, **changes) != default
    both = parse("main.py", "--as-published", "--noise", "adjacent")  # which wins
    assert both == Config("multiclass", list_order="row", validation_ratings="misaligned", noise="adjacent")


# --- what is refused

REFUSED = {  # by both scripts of multiclass
    "--ratio nan": "--ratio: nan is not allowed (allowed: a number from 0 to 1",
    "--ratio 1.5": "--ratio: 1.5 is not allowed",
    "--ratio 0,2": "--ratio: '0,2' is not allowed (allowed: a number from 0 to 1; separate several by spaces)",
    "--k 2.5": "--k: '2.5' is not allowed (allowed: an integer of at least 1",
    "--flip-rate guessed": "--flip-rate: 'guessed' is not allowed (allowed: a number from 0 to 1, estimated",
    "--lr-f 0": "--lr-f: 0.0 is not allowed (allowed: a number above 0",
    "--kl-weight inf": "--kl-weight: inf is not allowed (allowed: a number of at least 0, adaptive",
    "--loss bradley": f"--loss: 'bradley' is not allowed (allowed: {', '.join(LOSSES)}",
    "--path https://a.org/b.csv": "--path: https://a.org/b.csv is a web address; download the file first",
    "--loss robust --flip-rate 0.5": "--flip-rate 0.5: --loss robust needs one below 0.5",
    "--head scalar --loss study": "--loss study and --noise least-confident need a distribution",
    "--head scalar --noise least-confident": "--loss study and --noise least-confident need a distribution",
    "--head scalar --loss robust": "falls without limit; give a --kl-weight above 0",
    "--name a/b": "--name a/b: a name without slashes; --output chooses the folder around it",
    "--name ..": "--name ..: ",
    "--as-published gaps": "argument --as-published: invalid choice: 'gaps'",
    "--rat 0.2": "unrecognized arguments: --rat 0.2 (see --help)",  # options are not abbreviated
    "--labels all": "unrecognized arguments: --labels all",
}


def test_a_mistake_is_one_line_with_the_way_out(refusal):
    for given, script in product(REFUSED, SCRIPTS):
        assert REFUSED[given] in refusal(script, given)


OTHERS_REFUSED = [
        ("main.py", "multiclass", "--seed 4294967296", "4294967296 is not allowed (allowed: an integer from 0 to 42"),
        ("main.py", "multiclass", "--seeds 1", "unrecognized arguments: --seeds"),
        ("main.py", "multiclass", "--loss hinge:1", "--loss: 'hinge:1' is not allowed"),
        ("main.py", "binary", "--k 2", "unrecognized arguments: --k"),
        ("main.py", "human", "--comparisons c.csv --head categorical", "give a reward: --head scalar"),
        ("main.py", "human", "--comparisons c.csv --loss study", "--loss study and --noise least-confident need a dis"),
        ("main.py", "human", "--path r.csv", "--path: name the human comparisons of these reviews, too"),
        ("main.py", "human", "--noise uniform", "unrecognized arguments: --noise"),
        ("config.py", "human", "--as-published", "unrecognized arguments: --as-published"),
        ("config.py", "human", "--export a.jsonl", "unrecognized arguments: --export"),
        ("config.py", "multiclass", "--loss hinge:x", "--loss hinge:x: 'x' is not allowed"),
        ("config.py", "multiclass", "--loss hinge:1 --kl-weight 2", "--kl-weight: every --loss has a KL weight"),
        ("config.py", "multiclass", "--loss study hing:1", "--loss: 'hing' is not allowed"),
        ("config.py", "multiclass", "--head scalar --loss robust:1 robust", "give a --kl-weight above 0"),
]  # fmt: skip


def test_what_one_script_or_protocol_lacks_is_refused(refusal):
    for script, protocol, given, says in OTHERS_REFUSED:
        assert says in refusal(script, given, protocol)


# --- --help, and what is imported


def test_importing_the_command_line_imports_nothing_heavy():
    code = "import noisy_feedback.cli, noisy_feedback, sys; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = found.stdout.split()
    assert "noisy_feedback.config" in modules
    assert not {"torch", "numpy", "pandas", "scipy", "matplotlib", "sentence_transformers"} & set(modules)


STUDY = "use-cuda path comparisons model_name pc epochs-t labels ratio k epochs-f"
LACKING = {"multiclass": {"comparisons", "labels"}, "binary": {"comparisons", "labels", "k"}, "human": {"k"}}


@pytest.mark.parametrize(("protocol", "script"), [*product(PROTOCOLS, SCRIPTS)])
def test_help_lists_the_studys_options_first_with_their_defaults_and_every_name(protocol, script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit, match="0"):
        SCRIPTS[script](protocol)
    lines = capsys.readouterr().out
    listed = list(dict.fromkeys(re.findall(r"^  --([\w-]+)", lines, re.MULTILINE)))
    study = [option for option in STUDY.split() if option not in LACKING[protocol]]
    assert listed[: len(study)] == study
    assert ("seeds" if script == "config.py" else "seed") in listed[len(study) :]
    text = " ".join(lines.split())
    ratios = "0.0 0.2 0.4 0.6 0.8" if script == "config.py" and protocol != "human" else "0.0"
    assert f"or of comparisons reversed (`human`, --noise reversed) (default: {ratios})" in text
    assert ", ".join(LOSSES) in text
    assert ", ".join(NOISES) in text or protocol == "human"
    assert not re.search(r"default: (None|\(\)|False)", text)
