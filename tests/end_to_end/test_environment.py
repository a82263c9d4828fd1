"""The three places that name the environment agree: environment.yml, pyproject.toml, constraints.txt."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {extra: [Requirement(text) for text in texts] for extra, texts in PROJECT["optional-dependencies"].items()}
REQUIREMENTS = [*map(Requirement, PROJECT["dependencies"]), *chain.from_iterable(EXTRAS.values())]
DIRECT = [requirement for requirement in REQUIREMENTS if requirement.name != PROJECT["name"]]


# Each line of constraints.txt is a comment or name==version.
LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINS = [line.partition("==") for line in LINES if line and not line.startswith("#")]


def test_conda_gives_a_right_python_and_pip_installs_extras_that_there_are_under_the_constraints():
    python, _, from_pip = ENVIRONMENT["dependencies"]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python.partition("=")[2])
    under, what = from_pip["pip"]
    assert under == "-c constraints.txt"
    assert set(re.findall(r"[a-z]+", what.removeprefix("-e "))) <= set(EXTRAS)


def test_every_direct_dependency_has_an_oldest_version_an_end_and_one_version_in_the_constraints():
    for requirement in DIRECT:
        versions = [version for name, _, version in PINS if canonicalize_name(name) == requirement.name]
        assert len(versions) == 1, requirement
        assert requirement.specifier.contains(versions[0]), requirement
        operators = sorted(specifier.operator for specifier in requirement.specifier)
        assert operators in (["<", ">="], ["=="]), requirement


def test_every_library_that_the_package_imports_is_declared():
    imported = {name for file in (ROOT / "noisy_feedback").rglob("*.py") for name in imports_of(file)}
    third_party = imported - sys.stdlib_module_names - {"noisy_feedback"}
    declared = {canonicalize_name(requirement.name) for requirement in DIRECT}
    by_module = packages_distributions()
    missing = {
        name for name in third_party if not {canonicalize_name(found) for found in by_module.get(name, [])} & declared
    }
    assert not missing


def imports_of(file):
    """The top-level modules that a file imports anywhere."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]
