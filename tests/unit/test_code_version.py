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
    *("output/console.py", "output/figures.py", "output/plots.py"),
    *("output/sweep_tables.py", "output/tables.py"),
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package, of which `code_digest` computes the digest."""
    copy = tmp_path / "noisy_feedback"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_version, "PACKAGE", copy)
    return copy


def replace(file, old, new):
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


def append(file, text):
    file.write_text(file.read_text(encoding="utf-8") + text, encoding="utf-8")


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
    for new in ("new.py", "output/new.py", "a_new_folder/new.py"):  # also of a module that is new or has another name
        (package / new).parent.mkdir(exist_ok=True)
        (package / new).touch()
        added = code_digest()
        (package / new).replace(package / new.replace("new.py", "renamed.py"))
        assert len({before, added, code_digest()}) == 3
        before = code_digest()


def test_numbers_and_texts_that_are_used_change_the_version_and_comments_docstrings_and_layout_do_not(package):
    assert re.fullmatch("[0-9a-f]{12}", CODE_VERSION)
    assert code_digest() == CODE_VERSION  # wherever the package lies
    for name in MODULES:
        append(package / name, "\n\n\n# a comment\n")
    replace(package / "feedback/noise.py", '"""Noise in ratings.', '"""Another text.')
    replace(package / "feedback/noise.py", '"""Noisy ratings (n,): some reviews, drawn at random', '"""Another text.')
    assert code_digest() == CODE_VERSION
    replace(package / "learning/losses.py", "beta=0.1)", "beta=0.2)")
    number = code_digest()
    replace(package / "rng.py", '"split"', '"Split"')
    assert len({CODE_VERSION, number, code_digest()}) == 3
