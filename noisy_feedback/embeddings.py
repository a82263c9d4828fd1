"""Texts -> vectors, and the store that keeps them beside the data."""

import hashlib
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from noisy_feedback.encoder import Encoder, count_tokens, fetch_encoder, load_encoder
from noisy_feedback.errors import InputError
from noisy_feedback.tensors import METADATA, write_tensors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

CHUNK = 256  # reviews per file while embedding: what a kill can lose
BATCH = 32
MOSTLY_UNKNOWN = 0.3  # share of unknown word pieces that no tokenizer has for texts that it was made for
Track = Callable[[Sequence[np.ndarray]], Iterable[np.ndarray]]


@dataclass(frozen=True)
class Embeddings:
    """Vectors (n, d), float32, in the order of the texts, and where they come from.

    `origin` names model, revision, pooling, library and the SHA-256 of the vectors; `truncated` counts the
    texts that were longer than `limit` word pieces.
    """

    vectors: torch.Tensor
    origin: dict[str, Any]
    truncated: int
    limit: int | None


def fingerprint(texts: Sequence[str], encoder: Encoder) -> dict[str, Any]:
    """What embeddings depend on: two that agree in all of it are the same embeddings."""
    digest = hashlib.sha256()
    for text in texts:
        content = text.encode()
        digest.update(len(content).to_bytes(8, "big") + content)
    return {
        "texts": digest.hexdigest(),
        "model": encoder.name,
        "revision": encoder.revision,
        "pooling": encoder.pooling,
        "library": encoder.library,
    }


def find_embeddings(texts: Sequence[str], encoder: Encoder, folder: Path) -> Embeddings | None:
    """Stored embeddings whose fingerprint matches; None where there are none.

    An encoder that is not on this machine has no known revision, and then any revision matches.
    """
    wanted = {key: value for key, value in fingerprint(texts, encoder).items() if value is not None}
    for file in sorted((folder / "embeddings").glob("*.safetensors")):
        if file.name.startswith("."):  # not yet written whole, or never
            continue
        metadata = read_metadata(file)
        if wanted.items() <= metadata.items():
            embeddings = read_embeddings(file, metadata, len(texts))
            if embeddings is not None:
                shutil.rmtree(file.with_suffix(".partial"), ignore_errors=True)  # of a process killed at its very end
                return embeddings
    return None


def read_precalculated(file: Path, n: int) -> Embeddings:
    """The original's format: a tensor (n, d) in `embeddings.pt`, read without running anything.

    Errors: InputError for anything else than n finite vectors.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's doubts about a broken file; the verdict follows
            vectors = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception:  # a broken file makes torch raise many kinds; to the user they are one
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
        raise InputError(f"{file}: names the same numbers many times; save the tensor with .contiguous()")
    vectors = vectors.detach().float().contiguous()
    if not torch.isfinite(vectors).all():
        raise InputError(f"{file}: holds NaN or infinite values; make the embeddings again")
    return Embeddings(vectors, {"model": file.name, "sha256": sha256_of_tensor(vectors)}, truncated=0, limit=None)


def embed(
    texts: Sequence[str], encoder: Encoder, folder: Path, stem: str, devices: Sequence[str], track: Track = iter
) -> Embeddings:
    """Embed every text and store the vectors in `folder`/embeddings; `track` may show a bar over the chunks.

    Killed at any moment, the same call goes on from the last finished chunk and ends with the same bytes: a
    chunk's vectors depend on its texts alone. A second process waits for the first and then finds its work.
    A folder that cannot be written costs a warning and the chance to go on later.
    """
    encoder = fetch_encoder(encoder)
    model = load_encoder(encoder, devices[0])  # before anything is written: what is no model leaves no trace
    target = folder / "embeddings" / f"{stem}-{short_digest(fingerprint(texts, encoder))}.safetensors"
    with ExitStack() as stack:
        try:
            target.parent.mkdir(exist_ok=True)
            hold_lock(target.with_suffix(".lock"), stack)
        except OSError as error:
            print(
                f"warning: embeddings cannot be stored in {target.parent} ({error.strerror}); "
                "they are lost when this run ends",
                file=sys.stderr,
            )
            return embed_chunks(texts, encoder, model, devices, track, partial=None)
        stored = find_embeddings(texts, encoder, folder)  # by the process that was waited for
        if stored is not None:
            return stored
        partial = target.with_suffix(".partial")
        embeddings = embed_chunks(texts, encoder, model, devices, track, partial)
        metadata = {
            **fingerprint(texts, encoder),
            **embeddings.origin,
            "truncated": embeddings.truncated,
            "limit": embeddings.limit,
        }
        metadata["check"] = short_digest(metadata)
        write_tensors(target, {"embeddings": embeddings.vectors}, {METADATA: json.dumps(metadata)})
        shutil.rmtree(partial, ignore_errors=True)
        return embeddings


def embed_chunks(
    texts: Sequence[str],
    encoder: Encoder,
    model: "SentenceTransformer",
    devices: Sequence[str],
    track: Track,
    partial: Path | None,
) -> Embeddings:
    """Embed chunk by chunk, texts of like length together; chunks found in the folder `partial` are not done again."""
    counts, unknown = count_tokens(model, texts)
    if unknown > MOSTLY_UNKNOWN:
        print(
            f"warning: {encoder.name} does not know {unknown:.0%} of the word pieces of these reviews; "
            "is its tokenizer complete, and of their language?",
            file=sys.stderr,
        )
    tokens = np.array(counts)
    limit = model.max_seq_length
    order = np.argsort(-tokens, kind="stable")  # the longest first: memory runs out at the start or not at all
    chunks = [order[start : start + CHUNK * len(devices)] for start in range(0, len(order), CHUNK * len(devices))]
    vectors: torch.Tensor | None = None
    with ExitStack() as stack:
        pool = None
        if len(devices) > 1:
            pool = model.start_multi_process_pool(list(devices))
            stack.callback(model.stop_multi_process_pool, pool)
        for number, rows in enumerate(track(chunks)):
            file = partial / f"{number:06d}-of-{len(chunks):06d}.safetensors" if partial else None
            chunk = read_chunk(file, len(rows)) if file else None
            if chunk is None:
                encoded = model.encode(
                    [texts[row] for row in rows],
                    batch_size=BATCH,
                    show_progress_bar=False,
                    convert_to_numpy=True,
                    pool=pool,
                )
                chunk = torch.from_numpy(encoded).float()
                if file:
                    write_tensors(file, {"embeddings": chunk}, {METADATA: sha256_of_tensor(chunk)})
            if vectors is None:
                vectors = torch.empty(len(texts), chunk.shape[1])
            vectors[rows] = chunk
    assert vectors is not None
    if not torch.isfinite(vectors).all():
        raise InputError(f"--model_name {encoder.name}: gives NaN or infinite embeddings; use another encoder")
    return Embeddings(vectors, describe(encoder, vectors), int((tokens > limit).sum()) if limit else 0, limit)


def describe(encoder: Encoder, vectors: torch.Tensor) -> dict[str, Any]:
    return {
        "model": encoder.name,
        "revision": encoder.revision,
        "pooling": encoder.pooling,
        "library": encoder.library,
        "sha256": sha256_of_tensor(vectors),
    }


def read_metadata(file: Path) -> dict[str, Any]:
    """What a stored file says of itself; empty for a file that is not one of ours, or broken."""
    try:
        with safe_open(file, framework="pt") as stored:
            metadata = json.loads((stored.metadata() or {})[METADATA])
        check = metadata.pop("check")
        return metadata if check == short_digest(metadata) else {}
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return {}


def read_embeddings(file: Path, metadata: dict[str, Any], n: int) -> Embeddings | None:
    """Stored vectors of n texts, or None (and a warning) where they are not the ones that were written."""
    try:
        origin = {key: metadata[key] for key in ("model", "revision", "pooling", "library", "sha256")}
        vectors = load_file(file)["embeddings"]
        if is_intact(vectors, n, origin["sha256"]):
            return Embeddings(vectors, origin, metadata["truncated"], metadata["limit"])
    except (SafetensorError, OSError, KeyError):
        pass
    print(f"warning: {file} is damaged and not used", file=sys.stderr)
    return None


def read_chunk(file: Path, n: int) -> torch.Tensor | None:
    """A finished chunk of n vectors; None where there is none, or not the one that was written."""
    try:
        with safe_open(file, framework="pt") as stored:
            chunk, digest = stored.get_tensor("embeddings"), (stored.metadata() or {}).get(METADATA)
    except (SafetensorError, OSError):
        return None
    return chunk if is_intact(chunk, n, digest) else None


def is_intact(vectors: torch.Tensor, n: int, digest: str | None) -> bool:
    """Are these n vectors with this SHA-256, in the precision that they were written in?"""
    matrix = vectors.ndim == 2 and len(vectors) == n and vectors.dtype == torch.float32
    return matrix and sha256_of_tensor(vectors) == digest


def hold_lock(file: Path, stack: ExitStack) -> None:
    """Hold a lock until `stack` closes, waiting for another process first; the system frees a killed one's."""
    lock = FileLock(file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"waiting for another process that embeds these reviews ({file})", file=sys.stderr)
        lock.acquire()
    stack.callback(lock.release)


def short_digest(content: dict[str, Any]) -> str:
    """Twelve hexadecimal digits that stand for `content` in a file's name."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def sha256_of_tensor(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().data).hexdigest()
