"""Fetch the study's data set from Kaggle and check it: `pip install -e ".[data]" && python download.py`.

Needs a network and, for some data sets, a Kaggle account (https://www.kaggle.com/docs/api).
"""

import hashlib
import sys
from pathlib import Path

from noisy_feedback.cli import guarded
from noisy_feedback.errors import InputError
from noisy_feedback.files import written_atomically

DATASET = "andrewmvd/trip-advisor-hotel-reviews"
NAME = "tripadvisor_hotel_reviews.csv"
GIT_BLOB = "8475421c8e1500f2b9d1a640f8dc2fb08bee3173"  # git hash-object of the file; two copies agree


def download(folder: Path = Path(__file__).parent) -> Path:
    """Put the checked file into `folder`. Errors: InputError where it cannot be had or is another file."""
    content = fetch()
    check(content)
    with written_atomically(folder / NAME) as file:
        file.write_bytes(content)
    return folder / NAME


def fetch() -> bytes:
    try:
        import kagglehub
    except ImportError:
        raise InputError(
            'kagglehub is not installed: in the project folder pip install -c constraints.txt -e ".[data]"'
        ) from None
    try:
        return (Path(kagglehub.dataset_download(DATASET)) / NAME).read_bytes()
    except Exception as error:  # the client's errors are of many kinds; to the user they are one
        raise InputError(
            f"Kaggle data set {DATASET}: {type(error).__name__}: {str(error)[:200]}; download "
            f"{NAME} in a browser and put it here"
        ) from None


def check(content: bytes) -> None:
    found = git_blob(content)
    if found != GIT_BLOB:
        raise InputError(f"{NAME}: git blob {found}, not {GIT_BLOB}: not the study's data; nothing was written")


def git_blob(content: bytes) -> str:
    """What `git hash-object` prints of a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


if __name__ == "__main__":
    sys.exit(guarded("download.py", lambda: print(f"{download()}: complete, git blob {GIT_BLOB}")))
