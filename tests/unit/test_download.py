import hashlib
import http.client
import io
import sys
import urllib.error
import zipfile
from types import SimpleNamespace

import arguments
import download
import pandas as pd
import pytest
import sst5

from noisy_feedback.errors import InputError

CONTENT = b"Review,Rating\ngood,5\n"
SENTENCES = b'Review,Rating\n"Well , fine",4\nBad,1\nSo so,3\n'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder, for the files that would go to data/."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setattr(download, "FOLDER", folder)
    return folder


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """A Kaggle that serves CONTENT."""
    cache = tmp_path / "kaggle"
    cache.mkdir()
    (cache / download.TRIPADVISOR_FILE).write_bytes(CONTENT)
    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(dataset_download=lambda name: str(cache)))


@pytest.fixture
def treebank(monkeypatch):
    """The zip of a treebank of three sentences, with its ratings as the expected ones."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("trees/train.txt", "(3 (2 (2 Well) (2 ,)) (3 fine))\n")
        archive.writestr("trees/dev.txt", "(0 Bad)\n")
        archive.writestr("trees/test.txt", "(2 (2 So) (2 so))\n")
    monkeypatch.setattr(sst5, "RATINGS_SHA256", hashlib.sha256(b"413").hexdigest())
    monkeypatch.setattr(sst5, "CSV_SHA256", hashlib.sha256(SENTENCES).hexdigest())
    return content.getvalue()


@pytest.fixture
def debates(monkeypatch):
    """The zip of a corpus of one pair with two judgements, with its size as the expected one."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(
            "master/data/UKPConvArg1-Ranking-CSV/tea.csv", "#id\trank\targument\n1\t0.1\tHot\n2\t0.2\tOld\n"
        )
        archive.writestr(
            "master/data/UKPConvArg1-full-XML/tea.xml",
            "<list><annotatedArgumentPair><arg1><id>1</id></arg1><arg2><id>2</id></arg2><mTurkAssignments>"
            "<mTurkAssignment><turkID>Ann</turkID><value>a1</value></mTurkAssignment>"
            "<mTurkAssignment><turkID>Bob</turkID><value>a2</value></mTurkAssignment>"
            "</mTurkAssignments><goldLabel>a1</goldLabel></annotatedArgumentPair></list>",
        )
    monkeypatch.setattr(arguments, "COUNTS", {"arguments": 2, "judgements": 2, "pairs": 1, "workers": 2})
    return content.getvalue()


class Response(io.BytesIO):
    """What urlopen returns: readable, closable, of a length that may be unknown."""

    def __init__(self, content, length):
        super().__init__(content)
        self.length = length


@pytest.fixture
def server(monkeypatch):
    """A server; `content` and `length` of what it sends can be set, `requests` are recorded."""
    server = SimpleNamespace(content=b"", length=None, requests=[])

    def urlopen(url, timeout):
        server.requests.append((url, timeout))
        return Response(server.content, server.length)

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    return server


@pytest.fixture
def stanford(server, treebank):
    """A Stanford that serves the treebank."""
    server.content, server.length = treebank, len(treebank)
    return server


@pytest.fixture
def github(server, debates):
    """A GitHub that serves the debates, of unknown length, as it does with archives."""
    server.content = debates
    return server


def error_line(capsys, *arguments):
    """The one line on stderr of a command that fails with status 2."""
    assert download.main([*arguments]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "error" in line)
    return line


@pytest.mark.parametrize(
    ("content", "blob"),
    [
        (b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
        (b"test content\n", "d670460b4b4aece5915caf5c68d12f560a9fe3e4"),  # the example of the book Pro Git
    ],
)
def test_git_blob_is_the_object_id_of_git(content, blob):
    assert download.git_blob(content) == blob


def test_the_hotel_reviews_are_written_under_their_name(kaggle, folder, monkeypatch):
    monkeypatch.setattr(download, "TRIPADVISOR_GIT_BLOB", download.git_blob(CONTENT))
    assert download.main([]) == 0
    assert (folder / "tripadvisor_hotel_reviews.csv").read_bytes() == CONTENT


def test_hotel_reviews_that_are_not_the_studys_are_refused(kaggle, folder, capsys):
    assert "not the study's data" in error_line(capsys, "tripadvisor")
    assert list(folder.iterdir()) == []


def test_a_missing_kaggle_client_is_one_line_with_the_way_out(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "kagglehub", None)  # importing it then fails
    assert '".[data]"' in error_line(capsys)


def test_a_failing_kaggle_download_is_one_line_with_the_way_out(folder, monkeypatch, capsys):
    def fail(name):
        raise ConnectionError("no network\nanywhere")

    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(dataset_download=fail))
    line = error_line(capsys)
    assert "no network anywhere" in line
    assert f"download tripadvisor_hotel_reviews.csv in a browser and put it into {folder}" in line


@pytest.mark.parametrize("length", [None, 300], ids=["unknown length", "known length"])
def test_the_treebank_is_fetched_with_a_time_out_and_converted(stanford, folder, capsys, length):
    stanford.length = length
    assert download.main(["sst5"]) == 0
    assert (folder / "sst5.csv").read_bytes() == SENTENCES
    assert stanford.requests == [("https://nlp.stanford.edu/sentiment/trainDevTestTrees_PTB.zip", 60)]
    assert "warning" not in capsys.readouterr().err


def test_a_zip_at_hand_is_converted_without_a_network(treebank, stanford, folder, tmp_path):
    file = tmp_path / "trees.zip"
    file.write_bytes(treebank)
    assert download.main(["sst5", "--zip", str(file)]) == 0
    assert (folder / "sst5.csv").read_bytes() == SENTENCES
    assert stanford.requests == []


def test_a_zip_that_does_not_exist_is_named(tmp_path, capsys):
    assert "none.zip: No such file" in error_line(capsys, "sst5", "--zip", str(tmp_path / "none.zip"))


def test_a_zip_is_refused_for_the_hotel_reviews(capsys):
    with pytest.raises(SystemExit):
        download.main(["--zip", "trees.zip"])
    assert "--zip is for sst5 and arguments only" in capsys.readouterr().err


def test_other_ratings_than_the_treebanks_are_refused(stanford, folder, monkeypatch, capsys):
    monkeypatch.setattr(sst5, "RATINGS_SHA256", "0" * 64)
    assert "the ratings of these 3 sentences are not those" in error_line(capsys, "sst5")
    assert list(folder.iterdir()) == []


def test_other_spelling_than_that_of_the_published_results_is_a_warning(stanford, folder, monkeypatch, capsys):
    monkeypatch.setattr(sst5, "CSV_SHA256", "0" * 64)
    assert download.main(["sst5"]) == 0
    assert (folder / "sst5.csv").read_bytes() == SENTENCES
    assert "warning: sst5.csv has the right sentences and ratings" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [urllib.error.URLError("no route\nto host"), TimeoutError("timed out"), http.client.IncompleteRead(b"PK")],
    ids=lambda error: type(error).__name__,
)
def test_a_failing_treebank_download_is_one_line_with_the_way_out(folder, monkeypatch, capsys, error):
    def fail(url, timeout):
        raise error

    monkeypatch.setattr("urllib.request.urlopen", fail)
    line = error_line(capsys, "sst5")
    assert type(error).__name__ in line
    assert "give it with --zip FILE" in line
    assert list(folder.iterdir()) == []


def test_a_page_that_is_no_zip_is_refused(stanford, folder, capsys):
    stanford.content = b"<html>log in to the network of this hotel</html>"
    assert "not a readable zip" in error_line(capsys, "sst5")
    assert list(folder.iterdir()) == []


def test_a_download_without_end_is_cut_off(stanford, monkeypatch):
    monkeypatch.setattr(download, "CHUNK_BYTES", 10)
    stanford.content = bytes(10_000)
    with pytest.raises(InputError, match="more than 100 bytes"):
        download.fetch_zip("https://nlp.stanford.edu/trees.zip", max_bytes=100)


def check_debates(folder):
    assert (folder / "arguments.csv").read_bytes() == b"Review,Rating,Topic\nHot,5,tea\nOld,1,tea\n"
    judgements = pd.read_parquet(folder / "argument_comparisons.parquet")
    assert judgements.to_dict("records") == [
        {"chosen": "Hot", "rejected": "Old", "annotator": "Ann", "correct": True, "Topic": "tea", "pair": 0},
        {"chosen": "Old", "rejected": "Hot", "annotator": "Bob", "correct": False, "Topic": "tea", "pair": 0},
    ]
    assert len(list(folder.iterdir())) == 2


def test_the_debates_are_fetched_with_a_time_out_and_converted(github, folder, capsys):
    assert download.main(["arguments"]) == 0
    check_debates(folder)
    url = "https://github.com/UKPLab/acl2016-convincing-arguments/archive/refs/heads/master.zip"
    assert github.requests == [(url, 60)]
    assert capsys.readouterr().out.count("written and checked") == 2


def test_a_zip_of_debates_at_hand_is_converted_without_a_network(debates, server, folder, tmp_path):
    file = tmp_path / "debates.zip"
    file.write_bytes(debates)
    assert download.main(["arguments", "--zip", str(file)]) == 0
    check_debates(folder)
    assert server.requests == []


def test_debates_of_another_size_than_the_corpus_are_refused(github, folder, monkeypatch, capsys):
    monkeypatch.setitem(arguments.COUNTS, "workers", 3_716)
    assert "the corpus has 2 workers, not 3,716; nothing was written" in error_line(capsys, "arguments")
    assert list(folder.iterdir()) == []


def test_a_failing_download_of_debates_is_one_line_with_the_way_out(folder, monkeypatch, capsys):
    def fail(url, timeout):
        raise urllib.error.URLError("no route\nto host")

    monkeypatch.setattr("urllib.request.urlopen", fail)
    assert "no route to host" in (line := error_line(capsys, "arguments"))
    assert "give it with --zip FILE" in line
    assert list(folder.iterdir()) == []


def test_arguments_are_not_written_without_their_comparisons(github, folder, monkeypatch, capsys):
    def fail(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    assert "argument_comparisons.parquet: No space left on device" in error_line(capsys, "arguments")
    assert list(folder.iterdir()) == []


def test_help_names_every_data_set(capsys):
    with pytest.raises(SystemExit) as exit:
        download.main(["--help"])
    assert exit.value.code == 0
    text = capsys.readouterr().out
    assert "tripadvisor" in text and "sst5" in text and "arguments" in text
