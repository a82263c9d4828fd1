"""Files are complete or absent, whatever ends their writing."""

import errno
import hashlib
import os
import sys
from itertools import product
from pathlib import Path

import pytest

from noisy_feedback.errors import InputError
from noisy_feedback.files import atomic_write, check_writable, sha256_of


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_written_file_gets_its_name_and_folders_and_the_temporary_one_goes(tmp_path):
    file = tmp_path / "a" / "b" / "curves.png"
    with atomic_write(file) as temporary:
        temporary.write_text("new")
        assert (temporary.suffix, temporary.name[0]) == (".png", ".")  # writers choose the format by the suffix
        assert not file.exists()
    assert file.read_text() == "new"
    assert names_in(file.parent) == ["curves.png"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError(), OSError(errno.ENOSPC, "No space left")])
def test_an_error_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path, error):
    (tmp_path / "run.json").write_text("old")
    with pytest.raises(type(error)) as raised, atomic_write(tmp_path / "run.json") as temporary:
        temporary.write_text("half of the ne")
        raise error
    assert (tmp_path / "run.json").read_text() == "old"
    assert names_in(tmp_path) == ["run.json"]
    assert getattr(raised.value, "filename", str(tmp_path / "run.json")) == str(tmp_path / "run.json")


def test_the_content_is_on_the_disk_before_the_name_points_to_it(tmp_path, monkeypatch):
    order = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: (order.append("sync"), sync(file)))
    monkeypatch.setattr(Path, "replace", lambda self, target: (order.append("rename"), replace(self, target)))
    with atomic_write(tmp_path / "run.json") as temporary:
        temporary.write_text("new")
    assert order == ["sync", "rename"]


def test_a_folder_that_can_be_made_is_writable_and_is_not_made(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for folder in (tmp_path, tmp_path / "a" / "b", tmp_path / "link" / "results"):
        check_writable(folder)
    assert (names_in(tmp_path), names_in(tmp_path / "folder")) == (["folder", "link"], [])


def test_a_file_or_a_link_that_points_nowhere_is_not_writable(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name, below in product(("file", "link"), ("", "results")):
        with pytest.raises(InputError, match=rf"^--export .*{name}.*: .*{name} is not a folder; choose another one"):
            check_writable(tmp_path / name / below, "--export")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that nobody can write, root included")
def test_a_folder_that_nobody_can_write_is_refused():
    with pytest.raises(InputError, match=r"--output /proc/nope: cannot write /proc \(.*\); choose another one"):
        check_writable(Path("/proc/nope"))


def test_a_digest_is_that_of_the_content_and_what_cannot_be_read_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    assert sha256_of(tmp_path / "file") == hashlib.sha256(b"content").hexdigest()
    with pytest.raises(InputError, match=r"nothing-here: No such file or directory"):
        sha256_of(tmp_path / "nothing-here")
