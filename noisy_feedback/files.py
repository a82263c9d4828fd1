"""Whole files or none: everything that is written goes to a temporary name first."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from noisy_feedback.errors import InputError


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; move it there when the block ends well.

    The temporary name keeps the suffix, since some writers choose the format by it. Whatever ends the
    block early (an error, Ctrl-C, a kill) leaves `path` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # safetensors makes files that only their owner can read
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # the content must be on disk before the name points to it
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk is told without one
        raise
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Refuse a folder that could not be written when a long run ends, before the run starts.

    Errors: InputError where `folder`, or the nearest of its parents that exists, is no writable folder.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"--output {folder}: {existing} is not a folder; name another one")
    try:
        with tempfile.TemporaryDirectory(dir=existing):
            pass  # permission bits do not tell all: root, read-only and virtual file systems
    except OSError as error:
        raise InputError(f"--output {folder}: {existing} cannot be written ({error.strerror}); name another") from None


def sha256_of(file: Path) -> str:
    """Hexadecimal SHA-256 of a file's content. Errors: InputError where it cannot be read."""
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None
