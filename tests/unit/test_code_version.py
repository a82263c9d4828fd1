import re
import shutil
from pathlib import Path

import pytest

import noisy_feedback
from noisy_feedback import code_version
from noisy_feedback.code_version import CODE_VERSION, code_digest

PACKAGE = Path(noisy_feedback.__file__).parent
MODULES = {file.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py")}
# No mistake in these can be in a kept run: they read options, show, or repeat.
MAKE_NO_RESULTS = {
    *("__init__.py", "cli.py", "errors.py", "rating_model.py", "reproduce.py"),
    *("output/console.py", "output/figures.py", "output/tables.py"),
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package, of which `code_digest` computes the digest."""
    copy = tmp_path / "noisy_feedback"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_version, "PACKAGE", copy)
    return copy


def append(file, text):
    file.write_text(file.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_the_version_is_the_digest_of_the_package_wherever_it_lies(package, monkeypatch):
    here = code_digest()
    monkeypatch.setattr(code_version, "PACKAGE", PACKAGE)
    assert here == code_digest()


def test_the_version_is_twelve_hexadecimal_digits():
    assert re.fullmatch("[0-9a-f]{12}", CODE_VERSION)


def test_a_statement_in_any_module_changes_the_version_but_in_those_that_make_no_results(package):
    for name in MODULES:
        (package / name).write_text("", encoding="utf-8")  # a digest of empty modules takes no time
    unchanged, before = set(), code_digest()
    for name in MODULES:
        append(package / name, "x = 1\n")
        if code_digest() == before:
            unchanged.add(name)
        before = code_digest()
    assert unchanged == MAKE_NO_RESULTS


def test_a_number_in_the_code_changes_the_version(package):
    before = code_digest()
    losses = package / "learning/losses.py"
    text = losses.read_text(encoding="utf-8")
    assert text.count("beta=0.1)") == 1
    losses.write_text(text.replace("beta=0.1)", "beta=0.2)"), encoding="utf-8")
    assert code_digest() != before


def test_comments_and_layout_leave_the_version_unchanged(package):
    before = code_digest()
    for name in MODULES:
        append(package / name, "\n\n\n# a comment\n")
    assert code_digest() == before


def test_docstrings_leave_the_version_unchanged(package):
    before = code_digest()
    noise = package / "feedback/noise.py"
    text = noise.read_text(encoding="utf-8")
    for old in ('"""Noise in ratings and in comparisons.', '"""Noisy ratings (n,): some reviews, drawn at random'):
        assert text.count(old) == 1  # of the module, of a function
        text = text.replace(old, '"""Another text.')
    noise.write_text(text, encoding="utf-8")
    assert code_digest() == before


def test_a_text_that_is_used_counts(package):
    append(package / "rng.py", '\nNAME = "one"\n')
    one = code_digest()
    append(package / "rng.py", '\nNAME = "two"\n')
    assert code_digest() != one


@pytest.mark.parametrize("folder", [".", "output", "feedback", "a_new_folder"])
def test_a_new_module_changes_the_version(package, folder):
    before = code_digest()
    (package / folder).mkdir(exist_ok=True)
    (package / folder / "new.py").write_text("", encoding="utf-8")
    assert code_digest() != before


def test_a_module_under_another_name_changes_the_version(package):
    before = code_digest()
    (package / "feedback/noise.py").rename(package / "feedback/other.py")
    assert code_digest() != before
