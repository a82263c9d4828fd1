"""Tensors on disk, as safetensors: data, never code; whole files or none."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from noisy_feedback.errors import InputError
from noisy_feedback.files import written_atomically

METADATA = "noisy_feedback"  # one key for all texts, since safetensors writes several in no fixed order


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors by name, and texts about them. Errors: OSError, or InputError where safetensors says why not."""
    with written_atomically(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:  # a full disk, say
            raise InputError(f"{path}: cannot be written ({error})") from None
