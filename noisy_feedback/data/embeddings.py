"""Texts -> embeddings, and the store that keeps them beside the data."""

import hashlib
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open

from noisy_feedback.data.encoder import Encoder, count_tokens, fetch_encoder, load_encoder
from noisy_feedback.errors import InputError
from noisy_feedback.files import METADATA, write_tensors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

CHUNK_SIZE = 256  # reviews per file while embedding: what a kill can cost
BATCH_SIZE = 32
MANY_UNKNOWN = 0.3  # a share of unknown tokens that no tokenizer has on texts of the kind it was made for
Progress = Callable[[Sequence[np.ndarray]], Iterable[np.ndarray]]  # yields the chunks and may show a bar


@dataclass(frozen=True)
class EmbeddingsInfo:
    """Which encoder made the embeddings, on what, and the SHA-256 of the vectors.

    Of vectors that were given (`embeddings.pt`) only `model`, which is the file's name, and `sha256` are known.
    """

    model: str
    revision: str | None
    pooling: str | None
    library: str | None
    sha256: str
    device: str | None  # "cpu", or the GPU's model


@dataclass(frozen=True)
class Embeddings:
    """Vectors (n, d), float32, in the order of the texts; `truncated` texts were longer than `max_tokens`."""

    vectors: torch.Tensor
    info: EmbeddingsInfo
    truncated: int
    max_tokens: int | None


def fingerprint(texts: Sequence[str], encoder: Encoder) -> dict[str, str | None]:
    """What embeddings depend on: stored ones with the same fingerprint are used again.

    An encoder in the user's own folder is identified by its files (the revision), wherever the folder is.
    """
    digest = hashlib.sha256()
    for text in texts:
        content = text.encode()
        digest.update(len(content).to_bytes(8, "big") + content)
    return {
        "texts": digest.hexdigest(),
        "model": None if encoder.in_own_folder else encoder.name,
        "revision": encoder.revision,
        "pooling": encoder.pooling,
        "library": encoder.library,
    }


def find_embeddings(texts: Sequence[str], encoder: Encoder, folder: Path) -> Embeddings | None:
    """Embeddings in `folder`/embeddings whose fingerprint matches; None where there are none.

    An encoder that is not on this machine has no known revision, and then any revision matches.
    """
    wanted = {key: value for key, value in fingerprint(texts, encoder).items() if value is not None}
    for file in stored_files(folder):
        metadata = read_metadata(file)
        if wanted.items() <= metadata.items():
            embeddings = read_embeddings(file, metadata, len(texts))
            if embeddings is not None:
                # A process that was killed after writing the file has not removed its chunks.
                shutil.rmtree(chunk_folder_of(file), ignore_errors=True)
                return embeddings
    return None


def find_embeddings_by_sha256(folder: Path, n: int, sha256: str) -> Embeddings | None:
    """Exactly these n vectors, from `folder`/embeddings or `folder`/embeddings.pt; None where neither has them."""
    for file in stored_files(folder):
        metadata = read_metadata(file)
        if metadata.get("sha256") == sha256:
            embeddings = read_embeddings(file, metadata, n)
            if embeddings is not None:
                return embeddings
    try:
        given = read_embeddings_pt(folder / "embeddings.pt", n)
    except InputError:  # absent, or of other reviews
        return None
    return given if given.info.sha256 == sha256 else None


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
    plain = isinstance(vectors, torch.Tensor) and vectors.layout == torch.strided and not vectors.is_meta
    if not plain or vectors.ndim != 2 or not vectors.is_floating_point():
        raise InputError(f"{file}: holds no tensor of shape (reviews, dimensions) of floating-point numbers")
    if len(vectors) != n or vectors.shape[1] == 0:
        raise InputError(
            f"{file}: {tuple(vectors.shape)} numbers for {n} reviews; it belongs to other data: "
            "remove it, or run without --pc"
        )
    if vectors.numel() * vectors.element_size() > vectors.untyped_storage().nbytes():
        raise InputError(f"{file}: stores one number for several places; save the tensor with .contiguous()")
    vectors = fresh_copy(vectors)
    if not torch.isfinite(vectors).all():
        raise InputError(f"{file}: holds NaN or infinite values; compute the embeddings again")
    info = EmbeddingsInfo(
        model=file.name, revision=None, pooling=None, library=None, sha256=sha256_of_tensor(vectors), device=None
    )
    return Embeddings(vectors, info, truncated=0, max_tokens=None)


def embed(
    texts: Sequence[str], encoder: Encoder, folder: Path, stem: str, device: str, progress: Progress = iter
) -> Embeddings:
    """Embed all texts on a device ("cpu" or "cuda") and store the vectors in `folder`/embeddings/`stem`-*.safetensors.

    If the process is killed, the same call continues after the last finished chunk and gives the same bytes. A
    second process waits for the first and uses its embeddings. Where `folder` cannot be written, a warning says that
    nothing is stored. Errors: InputError where the encoder cannot be loaded or cannot embed.
    """
    encoder = fetch_encoder(encoder)
    model = load_encoder(encoder, device)  # before anything is written: a wrong model leaves no files
    target = folder / "embeddings" / f"{stem}-{short_digest(fingerprint(texts, encoder))}.safetensors"
    with ExitStack() as stack:
        try:
            target.parent.mkdir(exist_ok=True)
            stack.enter_context(lock(target.with_suffix(".lock")))
        except OSError as error:
            print(
                f"warning: embeddings cannot be stored in {target.parent} ({error.strerror}); "
                "the next run computes them again",
                file=sys.stderr,
            )
            return embed_chunks(texts, encoder, model, device, progress, chunk_folder=None)
        stored = find_embeddings(texts, encoder, folder)  # another process may have finished while this one waited
        if stored is not None:
            return stored
        chunk_folder = chunk_folder_of(target)
        embeddings = embed_chunks(texts, encoder, model, device, progress, chunk_folder)
        write_embeddings(target, embeddings, fingerprint(texts, encoder))
        shutil.rmtree(chunk_folder, ignore_errors=True)
        return embeddings


def embed_chunks(
    texts: Sequence[str],
    encoder: Encoder,
    model: "SentenceTransformer",
    device: str,
    progress: Progress,
    chunk_folder: Path | None,
) -> Embeddings:
    """Embed chunk by chunk, texts of similar length together; finished chunks are read from `chunk_folder`."""
    counts, unknown = count_tokens(model, texts)
    if unknown > MANY_UNKNOWN:
        print(
            f"warning: {encoder.name} does not know {unknown:.0%} of the tokens of these reviews; "
            "is its tokenizer complete, and for their language?",
            file=sys.stderr,
        )
    tokens = np.array(counts)
    order = np.argsort(-tokens, kind="stable")  # the longest first: memory runs out at the start or not at all
    chunks = [order[start : start + CHUNK_SIZE] for start in range(0, len(order), CHUNK_SIZE)]
    computed_on = device_name(device)
    vectors: torch.Tensor | None = None
    for number, rows in enumerate(progress(chunks)):
        file = chunk_folder / f"{number:06d}-of-{len(chunks):06d}.safetensors" if chunk_folder else None
        chunk = read_chunk(file, len(rows), computed_on) if file else None
        if chunk is None:
            chunk = encode(model, encoder, [texts[row] for row in rows])
            if file:
                write_tensors(file, {"embeddings": chunk}, chunk_label(chunk, computed_on))
        if vectors is None:
            vectors = torch.empty(len(texts), chunk.shape[1])
        vectors[rows] = chunk
    assert vectors is not None
    if not torch.isfinite(vectors).all():
        raise InputError(f"--model_name {encoder.name}: gives NaN or infinite embeddings; use another encoder")
    info = EmbeddingsInfo(
        model=encoder.name,
        revision=encoder.revision,
        pooling=encoder.pooling,
        library=encoder.library,
        sha256=sha256_of_tensor(vectors),
        device=computed_on,
    )
    max_tokens = model.max_seq_length
    truncated = int((tokens > max_tokens).sum()) if max_tokens else 0
    return Embeddings(vectors, info, truncated, max_tokens)


def encode(model: "SentenceTransformer", encoder: Encoder, texts: list[str]) -> torch.Tensor:
    """Vectors (n, d) of n texts. Errors: InputError where the model fails on them, as without enough memory."""
    try:
        vectors = model.encode(texts, batch_size=BATCH_SIZE, show_progress_bar=False, convert_to_numpy=True)
    except Exception as error:  # a tokenizer that does not fit the weights, a full GPU: the libraries raise many kinds
        raise InputError(
            f"--model_name {encoder.name}: cannot embed these reviews: {type(error).__name__}: {str(error)[:200]}"
        ) from None
    return torch.from_numpy(vectors).float()


def device_name(device: str) -> str:
    """What computes, for the record: "cpu", or the GPU's model."""
    return torch.cuda.get_device_name() if device == "cuda" else device


# --- the store


def stored_files(folder: Path) -> list[Path]:
    """The finished files of the store; a name with a dot is one that is being written, or was when a process died."""
    return [file for file in sorted((folder / "embeddings").glob("*.safetensors")) if not file.name.startswith(".")]


def chunk_folder_of(file: Path) -> Path:
    """Where the chunks of a stored file are until it is complete."""
    return file.with_suffix(".partial")


def write_embeddings(file: Path, embeddings: Embeddings, fingerprint: dict[str, str | None]) -> None:
    """Store embeddings with what they depend on, and a checksum of both. Errors: OSError, InputError."""
    metadata = {
        **fingerprint,
        **asdict(embeddings.info),
        "truncated": embeddings.truncated,
        "max_tokens": embeddings.max_tokens,
    }
    metadata["check"] = short_digest(metadata)
    write_tensors(file, {"embeddings": embeddings.vectors}, json.dumps(metadata))


def read_metadata(file: Path) -> dict[str, Any]:
    """What a stored file says about itself; empty for a damaged file, or one of another program or version."""
    try:
        with safe_open(file, framework="pt") as stored:
            metadata = json.loads((stored.metadata() or {})[METADATA])
        check = metadata.pop("check")
        return metadata if check == short_digest(metadata) and "max_tokens" in metadata else {}
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return {}


def read_embeddings(file: Path, metadata: dict[str, Any], n: int) -> Embeddings | None:
    """Stored vectors of n texts; None, and a warning, where they are not those that were written."""
    vectors, _ = read_vectors(file, n)
    if vectors is None or sha256_of_tensor(vectors) != metadata["sha256"]:
        print(f"warning: {file} is damaged and not used", file=sys.stderr)
        return None
    info = EmbeddingsInfo(**{field.name: metadata[field.name] for field in fields(EmbeddingsInfo)})
    return Embeddings(vectors, info, metadata["truncated"], metadata["max_tokens"])


def read_chunk(file: Path, n: int, device: str) -> torch.Tensor | None:
    """A finished chunk of n vectors; None where it is absent, damaged or of another device."""
    chunk, label = read_vectors(file, n)
    return chunk if chunk is not None and label == chunk_label(chunk, device) else None


def chunk_label(chunk: torch.Tensor, device: str) -> str:
    """The metadata of a chunk: how a damaged one, or one of another device, is recognised."""
    return f"{sha256_of_tensor(chunk)} {device}"


def read_vectors(file: Path, n: int) -> tuple[torch.Tensor | None, str | None]:
    """The tensor `embeddings` (n, d) of a safetensors file and the text stored with it; None for what is not there."""
    try:
        with safe_open(file, framework="pt") as stored:
            vectors, text = stored.get_tensor("embeddings"), (stored.metadata() or {}).get(METADATA)
    except (SafetensorError, OSError):
        return None, None
    if vectors.ndim != 2 or len(vectors) != n or vectors.dtype != torch.float32:
        return None, text
    return fresh_copy(vectors), text


def fresh_copy(vectors: torch.Tensor) -> torch.Tensor:
    """A contiguous float32 copy in memory that torch allocates.

    Matrix products have other last bits where memory is aligned differently, as the tensors of files are. In fresh
    memory stored embeddings give the same results as those just computed.
    """
    return torch.empty(vectors.shape, dtype=torch.float32).copy_(vectors.detach())


@contextmanager
def lock(file: Path) -> Iterator[None]:
    """Hold a lock, after waiting for another process if necessary; the system frees the lock of a killed process."""
    file_lock = FileLock(file)
    try:
        file_lock.acquire(blocking=False)
    except Timeout:
        print(f"waiting for another process that embeds these reviews ({file})", file=sys.stderr)
        file_lock.acquire()
    try:
        yield
    finally:
        file_lock.release()


def short_digest(content: dict[str, Any]) -> str:
    """Twelve hexadecimal digits that identify `content`, for a file's name."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def sha256_of_tensor(tensor: torch.Tensor) -> str:
    """Hexadecimal SHA-256 of a CPU tensor's numbers."""
    return hashlib.sha256(tensor.contiguous().numpy().data).hexdigest()
