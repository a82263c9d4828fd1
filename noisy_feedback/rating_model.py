"""A saved rating model with its encoder: texts -> ratings."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from noisy_feedback.data.columns import check_texts
from noisy_feedback.data.embeddings import EmbeddingsInfo
from noisy_feedback.data.encoder import count_tokens, find_encoder, load_encoder
from noisy_feedback.errors import InputError
from noisy_feedback.files import METADATA
from noisy_feedback.learning.model import RatingMLP, from_state_dict, predict
from noisy_feedback.metrics import expected_rating


class RatingModel:
    """Rates texts as the run that saved it would."""

    def __init__(self, model: RatingMLP, scale: Sequence[int], info: EmbeddingsInfo, encoder_name: str) -> None:
        self.model = model
        self.scale = np.array(scale)
        self.info = info
        self.encoder_name = encoder_name

    @classmethod
    def load(cls, file: str | Path, encoder: str | Path | None = None) -> "RatingModel":
        """Load a run's model_*.safetensors. Errors: InputError where the file is not one.

        `encoder` says where the encoder is if it is a folder; its content must be that of training.
        """
        try:
            with safe_open(file, framework="pt") as stored:
                metadata = json.loads((stored.metadata() or {})[METADATA])
            info = EmbeddingsInfo(**metadata["encoder"])
            return cls(from_state_dict(load_file(file)), metadata["scale"], info, str(encoder or info.model))
        except (OSError, SafetensorError, KeyError, ValueError, IndexError, TypeError, RuntimeError) as error:
            raise InputError(
                f"{file}: not a model of this project; give a run's model_best.safetensors ({error})"
            ) from None

    def rate(self, texts: Sequence[str]) -> np.ndarray:
        """Expected ratings (n,), in stars, of a list, tuple, array or Series of n texts; warns where texts are cut.

        A model of comparisons alone gives rewards, on a scale of their own.
        Errors: InputError for what is no such sequence of texts, and where the encoder of training cannot be had.
        """
        if isinstance(texts, str | Mapping) or not hasattr(texts, "__getitem__") or getattr(texts, "ndim", 1) != 1:
            way_out = "put a single text in brackets" if isinstance(texts, str) else "make a list of it"
            raise InputError(f"rate takes a list of texts, not {type(texts).__name__}; {way_out}")
        check_texts("rate", pd.Series(list(texts), dtype=object), "text")
        if not len(texts):
            return np.empty(0)
        limit = self.encoder.max_seq_length
        if longer := int((count_tokens(self.encoder, list(texts))[0] > limit).sum()) if limit else 0:
            message = f"{longer:,} of {len(texts):,} texts were cut at the encoder's limit of {limit} tokens"
            warnings.warn(message, stacklevel=2)
        return self.rate_embeddings(torch.from_numpy(self.encoder.encode(list(texts), show_progress_bar=False)))

    def rate_embeddings(self, vectors: torch.Tensor) -> np.ndarray:
        """Expected ratings (n,), in stars, of embeddings (n, d) on any device."""
        output = predict(self.model, vectors.detach().cpu().float()).numpy()
        return expected_rating(output, self.scale) if len(self.scale) else output[:, 0]

    @cached_property
    def encoder(self) -> Any:
        """The encoder of exactly the recorded revision, loaded once."""
        if self.info.pooling is None:
            raise InputError(
                f"trained on {self.info.model}, which does not say which encoder made it: "
                "embed the texts yourself and call rate_embeddings"
            )
        found = find_encoder(self.encoder_name, self.info.pooling, self.info.revision)
        return load_encoder(replace(found, truncate=self.info.truncate or "right"), "cpu")
