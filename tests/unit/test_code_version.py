import re
import shutil
from pathlib import Path

import pytest

import noisy_feedback
from noisy_feedback import code_version
from noisy_feedback.code_version import CODE_VERSION, FILES, FOLDERS, code_digest

PACKAGE = Path(noisy_feedback.__file__).parent
MODULES = {file.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py")}
COVERED = {name for name in MODULES if name in FILES or Path(name).parent.as_posix() in FOLDERS}
# A change of these changes no number of a run. A new module goes here, or into FOLDERS or FILES.
MAKE_NO_NUMBERS = {
    "__init__.py",
    "cli.py",  # the options that it reads are in the record of a run
    "cluster.py",
    "code_version.py",
    "errors.py",
    "files.py",
    "output/__init__.py",
    "output/console.py",
    "output/figures.py",
    "output/records.py",
    "output/tables.py",  # summaries of kept runs: they are made anew every time
    "rating_model.py",
    "reproduce.py",
    "sweep.py",
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


def test_every_module_is_covered_or_makes_no_numbers():
    assert COVERED | MAKE_NO_NUMBERS == MODULES
    assert not COVERED & MAKE_NO_NUMBERS


def test_the_version_is_the_digest_of_the_package_wherever_it_lies(package, monkeypatch):
    here = code_digest()
    monkeypatch.setattr(code_version, "PACKAGE", PACKAGE)
    assert here == code_digest()


def test_the_version_is_twelve_hexadecimal_digits():
    assert re.fullmatch("[0-9a-f]{12}", CODE_VERSION)


def test_a_statement_in_any_module_that_makes_numbers_changes_the_version(package):
    seen = {code_digest()}
    for name in sorted(COVERED):
        append(package / name, "\nx = 1\n")
        seen.add(code_digest())
    assert len(seen) == len(COVERED) + 1


def test_a_number_in_the_code_changes_the_version(package):
    before = code_digest()
    losses = package / "learning/losses.py"
    text = losses.read_text(encoding="utf-8")
    assert text.count("beta=0.1)") == 1
    losses.write_text(text.replace("beta=0.1)", "beta=0.2)"), encoding="utf-8")
    assert code_digest() != before


def test_modules_that_make_no_numbers_leave_the_version_unchanged(package):
    before = code_digest()
    for name in MAKE_NO_NUMBERS:
        append(package / name, "\nx = 1\n")
    assert code_digest() == before


def test_comments_and_layout_leave_the_version_unchanged(package):
    before = code_digest()
    for name in COVERED:
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


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_new_module_changes_the_version(package, folder):
    before = code_digest()
    (package / folder / "new.py").write_text("", encoding="utf-8")
    assert code_digest() != before


def test_a_module_under_another_name_changes_the_version(package):
    before = code_digest()
    (package / "feedback/noise.py").rename(package / "feedback/other.py")
    assert code_digest() != before
