"""What models say of comparisons that they were not trained on: none has to be held out for it."""

import numpy as np

from noisy_feedback.config import Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.data.splits import kept_together
from noisy_feedback.learning.examples import Examples
from noisy_feedback.learning.model import init_model, predict
from noisy_feedback.learning.objective import TRAINING_OBJECTIVES
from noisy_feedback.learning.training import TrainConfig, TrainingTask, fit
from noisy_feedback.metrics import expected_class
from noisy_feedback.rng import rng_for

FOLDS = 5


def cross_fitted_margins(config: Config, dataset: Dataset, epochs: int) -> np.ndarray:
    """The margin (J,) of every human comparison, by a reward model that was trained on the other folds.

    A fold holds whole groups, as the parts of the split do (`--split`). Each model is trained for so many epochs.
    Source: Northcutt, Jiang and Chuang 2021, Confident learning, section 4.
    """
    judgements = dataset.judgements
    assert judgements is not None
    rng = rng_for(config.seed, "cross-fitting")
    groups = kept_together(config, judgements)
    fold = rng.permutation(np.arange(groups.max() + 1) % FOLDS)[groups]  # (J,)
    pairs = np.stack([judgements.chosen, judgements.rejected], axis=1)  # (J, 2)
    margins = np.empty(len(pairs))
    for number in range(FOLDS):
        own, others = pairs[fold == number], pairs[fold != number]
        if not len(own):
            continue
        model = init_model((dataset.embeddings.shape[1], *config.hidden, 1), rng, dataset.embeddings.device)
        task = TrainingTask(
            examples=Examples(others, np.full(others.shape, -1)),
            validation=Examples(pairs[:0, :1], pairs[:0, :1]),
            objective=TRAINING_OBJECTIVES["comparisons"],
            rng=rng,
            validation_comparisons=own,  # only measured: the model of the last epoch is taken
        )
        train_config = TrainConfig(config.lr_t, config.batch_t, epochs, dataset.scale, "preference_accuracy")
        fitted = fit(model, dataset.embeddings, task, train_config)
        rewards = expected_class(predict(fitted.last, dataset.embeddings).cpu().numpy())
        margins[fold == number] = rewards[own[:, 0]] - rewards[own[:, 1]]
    return margins
