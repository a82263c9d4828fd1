"""A fine-tuned regressor with its encoder, loaded from a results folder: texts -> ratings."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from noisy_feedback.encoder import find_encoder, load_encoder
from noisy_feedback.errors import InputError
from noisy_feedback.metrics import expected_rating
from noisy_feedback.regressor import Regressor, from_state_dict, predict
from noisy_feedback.tensors import METADATA


class RatingModel:
    """Rates texts as the run that wrote `model.safetensors` would."""

    def __init__(self, regressor: Regressor, labels: Sequence[int], encoder: dict[str, Any]) -> None:
        self.regressor = regressor
        self.labels = np.array(labels)
        self.encoder = encoder

    @classmethod
    def load(cls, file: str | Path) -> "RatingModel":
        """Load `model.safetensors`. Errors: InputError where the file is none of this project's models."""
        try:
            with safe_open(file, framework="pt") as stored:
                metadata = json.loads((stored.metadata() or {})[METADATA])
            return cls(from_state_dict(load_file(file)), metadata["labels"], metadata["encoder"])
        except (OSError, SafetensorError, KeyError, ValueError, IndexError, TypeError, RecursionError) as error:
            raise InputError(f"{file}: no model of this project; give a run's model.safetensors ({error})") from None

    def rate(self, texts: Sequence[str]) -> np.ndarray:
        """Expected ratings (n,), in stars. Errors: InputError where the encoder it was trained on is not to be had."""
        if isinstance(texts, str):
            raise InputError("rate takes a list of texts; put a single one in brackets")
        if not len(texts):
            return np.empty(0)
        if not all(isinstance(text, str) for text in texts):
            raise InputError("rate takes texts alone; mend or drop what is none")
        return self.rate_embeddings(torch.from_numpy(self.load_encoder().encode(list(texts), show_progress_bar=False)))

    def rate_embeddings(self, vectors: torch.Tensor) -> np.ndarray:
        """Expected ratings (n,), in stars, of embeddings (n, d)."""
        return expected_rating(predict(self.regressor, vectors.float().unsqueeze(0))[0].numpy(), self.labels)

    def load_encoder(self) -> Any:
        if "pooling" not in self.encoder:
            raise InputError(
                f"trained on {self.encoder['model']}, which does not say by what encoder it was made: "
                "embed the texts yourself and call rate_embeddings"
            )
        encoder = find_encoder(self.encoder["model"], self.encoder["pooling"])
        if encoder.revision not in (None, self.encoder["revision"]):
            raise InputError(
                f"trained on {encoder.name} at revision {self.encoder['revision']}, but this machine has "
                f"{encoder.revision}"
            )
        return load_encoder(encoder, "cpu")
