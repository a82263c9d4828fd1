import hashlib
import http.client
import io
import sys
import urllib.error
from types import SimpleNamespace
from unittest import mock

import arguments
import download
import pandas as pd
import pytest
import sst5

from noisy_feedback.errors import InputError
from tests.conftest import zip_of

CONTENT = b"Review,Rating\ngood,5\n"
SENTENCES = b'Review,Rating\n"Well , fine",4\nBad,1\nSo so,3\n'
TREES = {
    "trees/train.txt": "(3 (2 (2 Well) (2 ,)) (3 fine))\n",
    "trees/dev.txt": "(0 Bad)\n",
    "trees/test.txt": "(2 (2 So) (2 so))\n",
}
DEBATES = {
    "master/data/UKPConvArg1-Ranking-CSV/tea.csv": "#id\trank\targument\n1\t0.1\tHot\n2\t0.2\tOld\n",
    "master/data/UKPConvArg1-full-XML/tea.xml": (
        "<list><annotatedArgumentPair><arg1><id>1</id></arg1><arg2><id>2</id></arg2><mTurkAssignments>"
        "<mTurkAssignment><turkID>Ann</turkID><value>a1</value></mTurkAssignment>"
        "<mTurkAssignment><turkID>Bob</turkID><value>a2</value></mTurkAssignment>"
        "</mTurkAssignments><goldLabel>a1</goldLabel></annotatedArgumentPair></list>"
    ),
}
URLS = {
    "sst5": "https://nlp.stanford.edu/sentiment/trainDevTestTrees_PTB.zip",
    "arguments": "https://github.com/UKPLab/acl2016-convincing-arguments/archive/refs/heads/master.zip",
}


ZIPS = {"sst5": zip_of(TREES), "arguments": zip_of(DEBATES)}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder, for the files that would go to data/, where the small data sets above are expected."""
    monkeypatch.setattr(download, "FOLDER", tmp_path / "data")
    monkeypatch.setattr(sst5, "RATINGS_SHA256", hashlib.sha256(b"413").hexdigest())
    monkeypatch.setattr(sst5, "CSV_SHA256", hashlib.sha256(SENTENCES).hexdigest())
    monkeypatch.setattr(arguments, "COUNTS", {"arguments": 2, "judgements": 2, "pairs": 1, "workers": 2})
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


class Response(io.BytesIO):
    """What urlopen returns: readable, closable, of a length that may be unknown."""

    length: int | None = None


@pytest.fixture
def server(monkeypatch):
    """A server of the zips, whose `content` can be changed; `requests` are recorded."""
    server = SimpleNamespace(content={URLS[name]: ZIPS[name] for name in ZIPS}, requests=[])

    def urlopen(url, timeout):
        server.requests.append((url, timeout))
        return Response(server.content[url])

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    return server


def error_line(capsys, *arguments):
    """The one line on stderr of a command that fails with status 2."""
    assert download.main([*map(str, arguments)]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "error" in line)
    return line


def test_the_hotel_reviews_are_written_under_their_name_if_they_are_the_studys(tmp_path, folder, monkeypatch, capsys):
    (tmp_path / download.TRIPADVISOR_FILE).write_bytes(CONTENT)
    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(dataset_download=lambda name: str(tmp_path)))
    assert "not the study's data" in error_line(capsys, "tripadvisor")
    assert list(folder.iterdir()) == []
    monkeypatch.setattr(download, "TRIPADVISOR_GIT_BLOB", download.git_blob(CONTENT))
    assert download.main([]) == 0
    assert (folder / "tripadvisor_hotel_reviews.csv").read_bytes() == CONTENT
    # the example of the book Pro Git
    assert download.git_blob(b"test content\n") == "d670460b4b4aece5915caf5c68d12f560a9fe3e4"


def test_a_missing_or_failing_kaggle_client_is_one_line_with_the_way_out(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "kagglehub", None)  # importing it then fails
    assert '".[data]"' in error_line(capsys)
    failing = SimpleNamespace(dataset_download=mock.Mock(side_effect=ConnectionError("no network\nanywhere")))
    monkeypatch.setitem(sys.modules, "kagglehub", failing)
    line = error_line(capsys)
    assert "no network anywhere" in line
    assert f"download tripadvisor_hotel_reviews.csv in a browser and put it into {folder}" in line


def check(folder, name):
    """The data set is in the folder, and nothing else."""
    if name == "sst5":
        assert (folder / "sst5.csv").read_bytes() == SENTENCES
    else:
        assert (folder / "arguments.csv").read_bytes() == b"Review,Rating,Topic\nHot,5,tea\nOld,1,tea\n"
        assert pd.read_parquet(folder / "argument_comparisons.parquet").to_dict("records") == [
            {"chosen": "Hot", "rejected": "Old", "annotator": "Ann", "correct": True, "Topic": "tea", "pair": 0},
            {"chosen": "Old", "rejected": "Hot", "annotator": "Bob", "correct": False, "Topic": "tea", "pair": 0},
        ]
    assert len(list(folder.iterdir())) == {"sst5": 1, "arguments": 2}[name]


@pytest.mark.parametrize("name", ZIPS)
@pytest.mark.parametrize("length", [None, 300], ids=["unknown length", "known length"])
def test_a_data_set_is_fetched_with_a_time_out_and_converted(server, folder, monkeypatch, capsys, name, length):
    monkeypatch.setattr(Response, "length", length)
    assert download.main([name]) == 0
    check(folder, name)
    assert server.requests == [(URLS[name], 60)]
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ZIPS)
def test_a_zip_at_hand_is_converted_without_a_network(server, folder, tmp_path, capsys, name):
    file = tmp_path / "file.zip"
    assert "file.zip: No such file" in error_line(capsys, name, "--zip", file)
    file.write_bytes(ZIPS[name])
    assert download.main([name, "--zip", str(file)]) == 0
    check(folder, name)
    assert server.requests == []
    with pytest.raises(SystemExit):
        download.main(["--zip", str(file)])
    assert "--zip is for sst5 and arguments only" in capsys.readouterr().err


def test_other_data_than_the_published_are_refused(server, folder, monkeypatch, capsys):
    monkeypatch.setattr(sst5, "RATINGS_SHA256", "0" * 64)
    assert "the ratings of these 3 sentences are not those" in error_line(capsys, "sst5")
    monkeypatch.setitem(arguments.COUNTS, "workers", 3_716)
    assert "the corpus has 2 workers, not 3,716; nothing was written" in error_line(capsys, "arguments")
    server.content[URLS["sst5"]] = b"<html>log in to the network of this hotel</html>"
    assert "not a readable zip" in error_line(capsys, "sst5")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("error", [urllib.error.URLError("no route\nto host"), http.client.IncompleteRead(b"PK")])
def test_a_failing_download_is_one_line_with_the_way_out(folder, monkeypatch, capsys, error):
    monkeypatch.setattr("urllib.request.urlopen", mock.Mock(side_effect=error))
    line = error_line(capsys, "arguments")
    assert type(error).__name__ in line
    assert "give it with --zip FILE" in line
    assert list(folder.iterdir()) == []


def test_a_download_without_end_is_cut_off(server, monkeypatch):
    monkeypatch.setattr(download, "CHUNK_BYTES", 10)
    server.content[URLS["sst5"]] = bytes(10_000)
    with pytest.raises(InputError, match="more than 100 bytes"):
        download.fetch_zip(URLS["sst5"], max_bytes=100)


def test_arguments_are_not_written_without_their_comparisons(server, folder, monkeypatch, capsys):
    monkeypatch.setattr(pd.DataFrame, "to_parquet", mock.Mock(side_effect=OSError(28, "No space left on device")))
    assert "argument_comparisons.parquet: No space left on device" in error_line(capsys, "arguments")
    assert list(folder.iterdir()) == []
