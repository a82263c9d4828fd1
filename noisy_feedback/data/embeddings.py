"""Texts -> embeddings, kept by the text: an encoder has one store, in which a text has one vector."""

import hashlib
import json
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors import safe_open
from safetensors.numpy import save
from torch import Tensor

from noisy_feedback.data.encoder import Encoder, count_tokens, fetch_encoder, load_encoder
from noisy_feedback.errors import InputError
from noisy_feedback.files import METADATA, atomic_write, check_writable, sha256_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

CHUNK_SIZE = 256  # texts per file: what a kill can cost
BATCH_SIZE = 32
MANY_UNKNOWN = 0.3  # a share of unknown tokens that no tokenizer has on texts of the kind it was made for
Known = dict[bytes, tuple[np.ndarray, int]]  # by the digest of a text: its vector, and how many tokens it has
Progress = Callable[[Sequence[np.ndarray]], Iterable[np.ndarray]]  # yields the chunks and may show a bar


@dataclass(frozen=True)
class EmbeddingsInfo:
    """Which encoder made the embeddings, on what, and the SHA-256 of the vectors.

    Of vectors that were given (`embeddings.pt`) only `model`, which is the file's name, and `sha256` are known.
    `truncate` is the side at which too long texts were cut.
    """

    model: str
    revision: str | None
    pooling: str | None
    library: str | None
    sha256: str
    device: str | None  # "cpu", or the GPU's model
    truncate: str | None = "right"


@dataclass(frozen=True)
class Embeddings:
    """Vectors (n, d), float32, in the order of the texts; `truncated` texts were longer than `max_tokens`."""

    vectors: Tensor
    info: EmbeddingsInfo
    truncated: int
    max_tokens: int | None
    computed: int = 0  # texts that were embedded now, not found in the store


class Store:
    """The vectors of one encoder on one device. A file holds `vectors` (m, d), `digests` (m, 32) and `tokens` (m,).

    The label names the encoder; it is in each file, and its digest in the folder's name. A file is named by the SHA-256
    of its content, which shows damage.
    """

    def __init__(self, parent: Path, label: dict[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(label, sort_keys=True).encode()).hexdigest()[:12]
        self.label = label
        self.folder = parent / f"{label['model'].rpartition('/')[2]}-{digest}"

    def read(self, digests: Collection[bytes]) -> Known:
        """What is stored of these texts. A damaged file, or one of another store, is not used; a warning names it."""
        known: Known = {}
        for file in sorted(self.folder.glob("[!.]*.safetensors")):  # a dot: being written, or when a process died
            try:
                with safe_open(file, framework="np") as stored:
                    found = stored.get_tensor("digests").view("V32").ravel().tolist()
                    rows = [row for row, digest in enumerate(found) if digest in digests]
                    if not rows:
                        continue
                    vectors, tokens = stored.get_tensor("vectors")[rows], stored.get_tensor("tokens")[rows]
                    label = json.loads(stored.metadata()[METADATA])
                damaged = label != self.label or sha256_of(file) != file.stem
            except Exception:  # a damaged file makes the readers raise many kinds
                damaged = True
            if damaged:
                warn_about(file)
            else:
                known |= zip((found[row] for row in rows), zip(vectors, tokens.tolist(), strict=True), strict=True)
        return known

    def write(self, digests: Sequence[bytes], vectors: np.ndarray, tokens: np.ndarray) -> None:
        """Add a file. Errors: OSError."""
        tensors = {"vectors": vectors, "digests": np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)}
        content = save({**tensors, "tokens": tokens}, {METADATA: json.dumps(self.label)})
        with atomic_write(self.folder / f"{hashlib.sha256(content).hexdigest()}.safetensors") as file:
            file.write_bytes(content)

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Embed in one process at a time; yields whether the store can be written. A kill frees the lock."""
        lock = FileLock(self.folder / "embedding.lock")
        try:
            check_writable(self.folder, "--embeddings")
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                print(f"waiting for another process that embeds these texts ({self.folder})", file=sys.stderr)
                lock.acquire()
        except (InputError, OSError) as error:
            print(f"warning: embeddings are not stored, the next run computes them again: {error}", file=sys.stderr)
        try:
            yield lock.is_locked
        finally:
            lock.release()

    def embeddings(self, digests: Sequence[bytes], known: Known, computed: int = 0) -> Embeddings:
        """The result, once all texts are known.

        The memory is torch's: matrix products have other last bits where memory is aligned differently, as the tensors
        of files are. So stored embeddings give the same results as those just computed.
        """
        found = [known[digest] for digest in digests]
        vectors = torch.empty(len(found), len(found[0][0]))
        np.concatenate([vector for vector, _ in found], out=vectors.numpy().reshape(-1))
        encoder = dict(self.label)
        max_tokens = encoder.pop("max_tokens")
        truncated = sum(tokens > max_tokens for _, tokens in found) if max_tokens else 0
        info = EmbeddingsInfo(**encoder, sha256=sha256_of_tensor(vectors))
        return Embeddings(vectors, info, truncated, max_tokens, computed)


def find_embeddings(texts: Sequence[str], encoder: Encoder, folder: Path, device: str) -> Embeddings | None:
    """The embeddings of all texts from one store in `folder`, best one of this device; None where none has them all.

    An encoder that is not on this machine has no known revision, and then any revision matches.
    """
    wanted = {name: value for name, value in label_of(encoder).items() if value is not None}
    wanted["truncate"] = encoder.truncate
    found = complete_stores(texts, folder, wanted)
    return min(found, key=lambda embeddings: embeddings.info.device != device_name(device), default=None)


def find_embeddings_by_sha256(texts: Sequence[str], folder: Path, given: Path, sha256: str) -> Embeddings | None:
    """Exactly the vectors with this SHA-256: of any store in `folder`, or those of the file `given`; else None."""
    found = complete_stores(texts, folder, {})
    with suppress(InputError):  # the file is absent, or of other texts
        found = chain(found, [read_embeddings_pt(given, len(texts))])
    return next((embeddings for embeddings in found if embeddings.info.sha256 == sha256), None)


def complete_stores(texts: Sequence[str], parent: Path, wanted: Mapping[str, Any]) -> Iterator[Embeddings]:
    """The embeddings of all texts, from each store that has them and whose label has what is wanted."""
    stores: dict[Path, Store] = {}
    for file in sorted(parent.glob("*/[!.]*.safetensors")):
        with suppress(Exception), safe_open(file, framework="pt") as stored:  # damaged, or of another program
            store = Store(parent, json.loads(stored.metadata()[METADATA]))
            stores[store.folder] = store
    digests = digests_of(texts)
    for store in stores.values():
        if wanted.items() <= ({"truncate": "right"} | store.label).items():
            known = store.read(set(digests))
            if known.keys() >= set(digests):
                yield store.embeddings(digests, known)


def read_embeddings_pt(file: Path, n: int) -> Embeddings:
    """The published code's format: a tensor (n, d) saved by torch.save, read without running any code in it.

    Errors: InputError for anything else than n finite vectors.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's warnings about a broken file; the error follows
            vectors = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from None
    except Exception:  # a broken file makes torch raise many kinds; for the user they are one
        raise InputError(f"{file}: not a plain tensor saved by torch.save; nothing else is loaded") from None
    is_plain = isinstance(vectors, Tensor) and vectors.layout == torch.strided and not vectors.is_meta
    # Fewer numbers than places: a small file could fill the memory.
    fits = is_plain and 0 < vectors.numel() * vectors.element_size() <= vectors.untyped_storage().nbytes()
    if not fits or vectors.ndim != 2 or len(vectors) != n or not vectors.is_floating_point():
        holds = f"of shape {tuple(vectors.shape)}" if is_plain else type(vectors).__name__
        raise InputError(
            f"{file}: holds no {n:,} vectors of floating-point numbers, one of each text, but {holds}; if it belongs "
            "to other data remove it, or run without --pc"
        )
    vectors = torch.empty(vectors.shape).copy_(vectors.detach())  # the memory is torch's: see Store.embeddings
    if not torch.isfinite(vectors).all():
        raise InputError(f"{file}: holds NaN or infinite values; compute the embeddings again")
    info = EmbeddingsInfo(file.name, None, None, None, sha256_of_tensor(vectors), None, None)
    return Embeddings(vectors, info, truncated=0, max_tokens=None)


def embed(texts: Sequence[str], encoder: Encoder, folder: Path, device: str, progress: Progress = iter) -> Embeddings:
    """Embed on a device ("cpu" or "cuda") the texts that the encoder's store in `folder` lacks, and add them to it.

    A vector's last bits depend on the others of its batch; once stored it stays as it is. A kill costs the unfinished
    chunk; a second process waits for the first. Where `folder` cannot be written, a warning says so. Errors: InputError
    where the encoder cannot be loaded or cannot embed.
    """
    encoder = fetch_encoder(encoder)
    model = load_encoder(encoder, device)  # before anything is written: a wrong model leaves no files
    on = {"device": device_name(device), "max_tokens": model.max_seq_length}
    store = Store(folder, label_of(encoder) | on)
    digests = digests_of(texts)
    with store.lock() as writable:
        known = store.read(set(digests))
        text_of = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in known}
        tokens, unknown = count_tokens(model, list(text_of.values()))
        if unknown > MANY_UNKNOWN:
            share = f"{encoder.name} does not know {unknown:.0%} of the tokens of {len(text_of):,} texts"
            print(f"warning: {share}; is its tokenizer complete, and for their language?", file=sys.stderr)
        missing = list(text_of)
        order = np.argsort(-tokens, kind="stable")  # the longest first: memory runs out at the start or not at all
        for chunk in progress([order[start : start + CHUNK_SIZE] for start in range(0, len(order), CHUNK_SIZE)]):
            chosen = [missing[row] for row in chunk]
            vectors = encode(model, encoder, [text_of[digest] for digest in chosen])
            if writable:
                store.write(chosen, vectors, tokens[chunk])
            known |= zip(chosen, zip(vectors, tokens[chunk].tolist(), strict=True), strict=True)
    return store.embeddings(digests, known, computed=len(missing))


def encode(model: "SentenceTransformer", encoder: Encoder, texts: list[str]) -> np.ndarray:
    """Vectors (n, d) of n texts. Errors: InputError where the model fails on them, or gives what is not finite."""
    try:
        vectors = model.encode(texts, batch_size=BATCH_SIZE, show_progress_bar=False, convert_to_numpy=True)
    except Exception as error:  # a tokenizer that does not fit the weights, a full GPU: the libraries raise many kinds
        problem = f"cannot embed these reviews: {type(error).__name__}: {str(error)[:200]}"
        raise InputError(f"--model_name {encoder.name}: {problem}") from None
    if not np.isfinite(vectors).all():
        raise InputError(f"--model_name {encoder.name}: gives NaN or infinite embeddings; use another encoder")
    return np.asarray(vectors, dtype=np.float32)


def label_of(encoder: Encoder) -> dict[str, Any]:
    """The encoder, as stored files name it; texts are cut on the right where they do not say it."""
    label = {
        "model": encoder.name,
        "revision": encoder.revision,
        "pooling": encoder.pooling,
        "library": encoder.library,
    }
    return label if encoder.truncate == "right" else {**label, "truncate": encoder.truncate}


def device_name(device: str) -> str:
    """What computes, for the record: "cpu", or the GPU's model."""
    return torch.cuda.get_device_name() if device == "cuda" else device


@cache  # once, however often the file is read
def warn_about(file: Path) -> None:
    """Say that a file is not used."""
    print(f"warning: {file} is damaged, or of another encoder, and not used; remove it", file=sys.stderr)


def digests_of(texts: Sequence[str]) -> list[bytes]:
    """What texts are found by."""
    return [hashlib.sha256(text.encode()).digest() for text in texts]


def sha256_of_tensor(tensor: Tensor) -> str:
    """Hexadecimal SHA-256 of a CPU tensor's numbers."""
    return hashlib.sha256(tensor.contiguous().numpy().data).hexdigest()
