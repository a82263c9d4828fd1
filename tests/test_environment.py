import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {extra: [Requirement(text) for text in texts] for extra, texts in PROJECT["optional-dependencies"].items()}
REQUIREMENTS = [*map(Requirement, PROJECT["dependencies"]), *chain.from_iterable(EXTRAS.values())]
DIRECT = [requirement for requirement in REQUIREMENTS if requirement.name != PROJECT["name"]]


def constraints():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pinned(requirement):
    """The version of `name==version`; of anything else None."""
    (specifier,) = requirement.specifier
    return specifier.version if specifier.operator == "==" else None


def test_conda_forge_is_the_only_channel():
    assert ENVIRONMENT["channels"] == ["conda-forge", "nodefaults"]


def test_conda_gives_python_and_pip_alone():
    *from_conda, from_pip = ENVIRONMENT["dependencies"]
    assert [name.partition("=")[0] for name in from_conda] == ["python", "pip"]
    assert list(from_pip) == ["pip"]


def test_condas_python_is_one_that_the_project_takes():
    (python,) = (name for name in ENVIRONMENT["dependencies"] if str(name).startswith("python="))
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python.partition("=")[2])


def test_pip_installs_under_the_constraints_nothing_but_the_project():
    under, what = ENVIRONMENT["dependencies"][-1]["pip"]
    assert under == "-c constraints.txt"
    assert re.fullmatch(r"-e \.\[[a-z,]+\]", what)


def test_pip_installs_every_extra():
    *_, what = ENVIRONMENT["dependencies"][-1]["pip"]
    named = set(re.findall(r"[a-z]+", what.removeprefix("-e ")))
    named_in_turn = {
        extra for name in named for line in EXTRAS[name] if line.name == PROJECT["name"] for extra in line.extras
    }
    assert named | named_in_turn == set(EXTRAS)


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_a_direct_dependency_is_pinned_to_the_version_in_the_constraints(requirement):
    versions = [pinned(line) for line in constraints() if canonicalize_name(line.name) == requirement.name]
    assert versions == [pinned(requirement)]


def test_every_constraint_is_one_version():
    assert all(pinned(line) for line in constraints())


def test_no_constraint_names_a_local_version():
    assert not [str(line) for line in constraints() if "+" in str(line.specifier)]
