"""Files are complete or absent: everything is written to a temporary name first, then renamed."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from noisy_feedback.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

METADATA = "noisy_feedback"  # safetensors writes several metadata keys in no fixed order, so all texts share one


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to, and rename it to `path` when the block succeeds.

    The temporary name keeps the suffix, since some writers choose the format by it. Whatever ends the block
    early (an error, Ctrl-C, a kill) leaves `path` unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        temporary.touch()
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # the content must be on disk before the name points to it
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # the error of a full disk names no file
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: "dict[str, Tensor]", metadata: str) -> None:
    """Write named tensors and one text about them as safetensors. Errors: OSError."""
    from safetensors.torch import save  # imports torch, which the parser of arguments does without

    with atomic_write(path) as temporary:
        temporary.write_bytes(save(tensors, {METADATA: metadata}))


def check_writable(folder: Path, option: str = "--output") -> None:
    """Refuse a folder, given by an option, that cannot be written, before anything expensive runs.

    Errors: InputError where `folder`, or the nearest of its parents that exists, is not a writable folder: a file, say,
    or a link that points nowhere.
    """
    existing = folder
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"{option} {folder}: {existing} is not a folder; choose another one")
    try:
        with tempfile.TemporaryDirectory(dir=existing):
            pass  # permission bits do not say everything: root, read-only and virtual file systems
    except OSError as error:
        raise InputError(f"{option} {folder}: cannot write {existing} ({error.strerror}); choose another one") from None


def sha256_of(file: Path) -> str:
    """Hexadecimal SHA-256 of a file's content. Errors: InputError where it cannot be read."""
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None
