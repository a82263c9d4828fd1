"""Fetch a data set into this folder and check that it is the one that the results are based on.

python download.py              the hotel reviews of the study (needs `pip install -e ".[data]"`)
python download.py sst5         the Stanford Sentiment Treebank, converted to sst5.csv
python download.py arguments    the corpus UKPConvArg1, converted to arguments.csv and argument_comparisons.parquet
"""

import argparse
import hashlib
import http.client
import sys
import urllib.request
from pathlib import Path

import arguments
import sst5
from make_sample import to_csv
from tqdm import tqdm

from noisy_feedback.errors import InputError, run_with_error_messages
from noisy_feedback.files import atomic_write

FOLDER = Path(__file__).parent

TRIPADVISOR_DATASET = "andrewmvd/trip-advisor-hotel-reviews"  # on Kaggle
TRIPADVISOR_FILE = "tripadvisor_hotel_reviews.csv"
TRIPADVISOR_GIT_BLOB = "8475421c8e1500f2b9d1a640f8dc2fb08bee3173"  # git hash-object of the file; two copies agree

SST5_URL = "https://nlp.stanford.edu/sentiment/trainDevTestTrees_PTB.zip"
SST5_FILE = "sst5.csv"
SST5_MAX_BYTES = 20_000_000  # the official zip has less than 1 MB

ARGUMENTS_URL = "https://github.com/UKPLab/acl2016-convincing-arguments/archive/refs/heads/master.zip"
ARGUMENTS_FILE = "arguments.csv"
ARGUMENT_COMPARISONS_FILE = "argument_comparisons.parquet"
ARGUMENTS_MAX_BYTES = 500_000_000  # a zip of the whole repository

TIMEOUT = 60  # seconds without a byte from the server
CHUNK_BYTES = 2**16


def download_tripadvisor(folder: Path) -> list[Path]:
    """Write the checked file of hotel reviews. Errors: InputError where it cannot be fetched or is another file."""
    content = fetch_from_kaggle()
    found = git_blob(content)
    if found != TRIPADVISOR_GIT_BLOB:
        raise InputError(
            f"{TRIPADVISOR_FILE}: git blob {found}, not {TRIPADVISOR_GIT_BLOB}: not the study's data; "
            "nothing was written"
        )
    with atomic_write(folder / TRIPADVISOR_FILE) as file:
        file.write_bytes(content)
    return [folder / TRIPADVISOR_FILE]


def download_sst5(folder: Path, zip_file: Path | None) -> list[Path]:
    """Write the sentences of the treebank, from `zip_file` or else from Stanford, as a CSV of Review and Rating.

    Errors: InputError where the zip cannot be fetched or its ratings are not the treebank's. Sentences that are
    spelled otherwise than those of the published results only give a warning on stderr.
    """
    reviews = sst5.read_treebank(fetch_zip(SST5_URL, SST5_MAX_BYTES) if zip_file is None else zip_file.read_bytes())
    sst5.check_ratings(reviews)
    content = to_csv(reviews)
    with atomic_write(folder / SST5_FILE) as file:
        file.write_bytes(content)
    if hashlib.sha256(content).hexdigest() != sst5.CSV_SHA256:
        print(
            f"download.py: warning: {SST5_FILE} has the right sentences and ratings, but some tokens are spelled "
            "otherwise than in the published results (SHA-256 differs); expect slightly different numbers",
            file=sys.stderr,
        )
    return [folder / SST5_FILE]


def download_arguments(folder: Path, zip_file: Path | None) -> list[Path]:
    """Write the arguments with their ratings, as a CSV, and the judgements of pairs of them, as Parquet.

    Errors: InputError where the zip cannot be fetched, or does not hold the corpus in its official size.
    """
    content = fetch_zip(ARGUMENTS_URL, ARGUMENTS_MAX_BYTES) if zip_file is None else zip_file.read_bytes()
    reviews, judgements = arguments.read_corpus(content)
    arguments.check_counts(reviews, judgements)
    files = [folder / ARGUMENTS_FILE, folder / ARGUMENT_COMPARISONS_FILE]
    with atomic_write(files[0]) as reviews_file, atomic_write(files[1]) as judgements_file:
        reviews.to_csv(reviews_file, index=False, lineterminator="\n")
        judgements.to_parquet(judgements_file, compression="zstd")
    return files


def fetch_from_kaggle() -> bytes:
    try:
        import kagglehub
    except ImportError:
        raise InputError(
            'kagglehub is not installed: in the project folder pip install -c constraints.txt -e ".[data]"'
        ) from None
    try:
        return (Path(kagglehub.dataset_download(TRIPADVISOR_DATASET)) / TRIPADVISOR_FILE).read_bytes()
    except Exception as error:  # the client's errors are of many kinds; to the user they are one
        raise InputError(
            f"Kaggle data set {TRIPADVISOR_DATASET}: {type(error).__name__}: {str(error)[:200]}; download "
            f"{TRIPADVISOR_FILE} in a browser and put it into {FOLDER}"
        ) from None


def fetch_zip(url: str, max_bytes: int) -> bytes:
    """A zip from its official home. Errors: InputError where it cannot be fetched or is larger than `max_bytes`."""
    content = bytearray()
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            total = response.length  # bytes, or None where the server does not say
            with tqdm(total=total, unit="B", unit_scale=True, desc=url.rpartition("/")[2]) as bar:
                while (chunk := response.read(CHUNK_BYTES)) and len(content) <= max_bytes:
                    content += chunk
                    bar.update(len(chunk))
    except (OSError, http.client.HTTPException) as error:
        raise InputError(
            f"{url}: {type(error).__name__}: {str(error)[:200]}; try again, or download it in a browser and "
            "give it with --zip FILE"
        ) from None
    if len(content) > max_bytes:
        raise InputError(f"{url}: more than {max_bytes:,} bytes, so not the data set; nothing was written")
    return bytes(content)


def git_blob(content: bytes) -> str:
    """What `git hash-object` prints for a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="download.py", description=f"Fetch a data set, check it and write it to {FOLDER}."
    )
    parser.add_argument(
        "dataset",
        nargs="?",
        choices=("tripadvisor", "sst5", "arguments"),
        default="tripadvisor",
        help=f"tripadvisor (default): the hotel reviews of the study, from Kaggle, as {TRIPADVISOR_FILE}; "
        f"sst5: the Stanford Sentiment Treebank, from Stanford, as {SST5_FILE}; "
        f"arguments: the corpus UKPConvArg1, arguments and human comparisons of them, from GitHub, as {ARGUMENTS_FILE} "
        f"and {ARGUMENT_COMPARISONS_FILE}",
    )
    parser.add_argument(
        "--zip",
        type=Path,
        metavar="FILE",
        help=f"convert this copy of {SST5_URL} (sst5) or {ARGUMENTS_URL} (arguments)",
    )
    args = parser.parse_args(argv)
    if args.zip and args.dataset == "tripadvisor":
        parser.error("--zip is for sst5 and arguments only: python download.py sst5 --zip FILE")

    def work() -> None:
        if args.dataset == "sst5":
            files = download_sst5(FOLDER, args.zip)
        elif args.dataset == "arguments":
            files = download_arguments(FOLDER, args.zip)
        else:
            files = download_tripadvisor(FOLDER)
        for file in files:
            print(f"{file}: written and checked")

    return run_with_error_messages("download.py", work)


if __name__ == "__main__":
    sys.exit(main())
