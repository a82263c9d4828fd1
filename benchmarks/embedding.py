"""Embedding throughput: this project's, which stores chunk by chunk, against plain SentenceTransformer.encode.

    python benchmarks/embedding.py                        # on the GPU if there is one
    python benchmarks/embedding.py --reviews 300 --rounds 1   # a CPU takes long

The encoder is of BERT's size (bert-base: 12 layers, 768 dimensions) with random weights: the time is the same. Then the
bundled sample with the default encoder, against the multiply-adds of its matrix products.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from sweep import ROOT, timed
from transformers import BertConfig, BertModel, BertTokenizerFast  # type: ignore[attr-defined]

from noisy_feedback.config import DEFAULT_ENCODER
from noisy_feedback.data.embeddings import embed
from noisy_feedback.data.encoder import count_tokens, find_encoder, load_encoder
from noisy_feedback.data.reviews import SAMPLE_FILE

VOCABULARY = 2000
WORDS = 104  # of a review, on average, as in TripAdvisor's


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reviews", type=int, default=20_491)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    texts = made_up(options.reviews)
    with tempfile.TemporaryDirectory() as folder:
        encoder = find_encoder(str(write_bert(Path(folder) / "bert")), "mean")
        model = load_encoder(encoder, device)
        model.encode(texts[:64], batch_size=32)  # the first call of a device takes longer
        ours, plain = [], []
        for number in range(options.rounds):
            store = Path(folder) / f"store{number}"
            store.mkdir()
            start = time.perf_counter()
            vectors = embed(texts, encoder, store, device).vectors
            ours.append(time.perf_counter() - start)
            start = time.perf_counter()
            expected = model.encode(texts, batch_size=32, show_progress_bar=False, convert_to_tensor=True).cpu()
            plain.append(time.perf_counter() - start)
    distance = float((vectors - expected).abs().max())
    print(f"{options.reviews:,} reviews on {device}, median of {options.rounds}; largest difference {distance:.1e}")
    print(f"embed, with loading and storing    {median(ours):8.1f} s  {options.reviews / median(ours):8.1f} reviews/s")
    print(
        f"SentenceTransformer.encode         {median(plain):8.1f} s  {options.reviews / median(plain):8.1f} reviews/s"
    )
    print(f"ratio                              {median(plain) / median(ours):8.2f}")
    sample(options.reviews)


def sample(reviews: int) -> None:
    """CPU time of embedding the bundled sample with the default encoder, over that of its multiply-adds by torch.mm."""
    encoder = find_encoder(DEFAULT_ENCODER, "model")
    model = load_encoder(encoder, "cpu")
    texts = pd.read_csv(ROOT / "data" / SAMPLE_FILE)["Review"].tolist()[:reviews]
    tokens = count_tokens(model, texts)[0].clip(max=model.max_seq_length or 512)
    config: Any = model[0].auto_model.config  # type: ignore[union-attr]
    width, inner = config.hidden_size, config.intermediate_size
    products = tokens * (4 * width**2 + 2 * width * inner) + 2 * width * tokens.astype(float) ** 2  # and attention
    size = 2048
    a, b = torch.randn(size, size), torch.randn(size, size)
    alone = min(timed(lambda: torch.mm(a, b), time.process_time)() for _ in range(10)) / size**3
    with tempfile.TemporaryDirectory() as store:
        used = timed(lambda: embed(texts, encoder, Path(store), "cpu"), time.process_time)()
    bare = config.num_hidden_layers * products.sum() * alone
    print(f"\n{len(texts):,} reviews of the bundled sample, {encoder.name}, CPU time")
    print(f"embed, with loading and storing    {used:8.1f} s")
    print(f"its multiply-adds alone            {bare:8.1f} s")
    print(f"ratio                              {used / bare:8.2f}")


def made_up(n: int) -> list[str]:
    """Reviews of a log-normal number of words, as real ones have."""
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(np.log(WORDS) - 0.32, 0.8, size=n).astype(int) + 1
    return [" ".join(f"w{word}" for word in rng.integers(VOCABULARY, size=length)) for length in lengths]


def write_bert(folder: Path) -> Path:
    """A model folder of bert-base's size whose vocabulary is the made-up words."""
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(VOCABULARY))]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=512).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words))).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
