import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from noisy_feedback.cli import guarded
from noisy_feedback.errors import InputError

CONTENT = b"Review,Rating\ngood,5\n"


@pytest.fixture
def download():
    """`data/download.py` as a module, fresh for every test."""
    file = Path(__file__).parents[1] / "data" / "download.py"
    spec = importlib.util.spec_from_file_location("download", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def kaggle(tmp_path, monkeypatch, download):
    """A Kaggle that gives out CONTENT."""
    folder = tmp_path / "kaggle"
    folder.mkdir()
    (folder / download.NAME).write_bytes(CONTENT)
    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(dataset_download=lambda name: str(folder)))


@pytest.fixture
def here(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("content", [b"", CONTENT, bytes(range(256)) * 40], ids=len)
def test_git_blob_is_what_git_says(download, content):
    said = subprocess.run(["git", "hash-object", "--stdin"], input=content, capture_output=True, check=True).stdout
    assert download.git_blob(content) == said.decode().strip()


def test_another_file_than_the_studys_is_refused(download, kaggle, here):
    with pytest.raises(InputError, match="not the study's data"):
        download.download(here)


def test_of_a_refused_file_nothing_is_written(download, kaggle, here):
    with pytest.raises(InputError):
        download.download(here)
    assert list(here.iterdir()) == []


def test_the_right_file_lands_under_its_name(download, kaggle, here, monkeypatch):
    monkeypatch.setattr(download, "GIT_BLOB", download.git_blob(CONTENT))
    file = download.download(here)
    assert file == here / "tripadvisor_hotel_reviews.csv"
    assert file.read_bytes() == CONTENT


def test_a_missing_client_is_one_line_with_the_way_out(download, here, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "kagglehub", None)  # importing it then fails
    assert guarded("download.py", lambda: download.download(here)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert '".[data]"' in line


def test_a_failing_download_is_one_line_with_the_way_out(download, here, monkeypatch, capsys):
    def fail(name):
        raise ConnectionError("no network\nanywhere")

    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(dataset_download=fail))
    assert guarded("download.py", lambda: download.download(here)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no network anywhere" in line
    assert "download tripadvisor_hotel_reviews.csv in a browser" in line
