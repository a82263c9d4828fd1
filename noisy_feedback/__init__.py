"""The influence of noisy human feedback in fine-tuning from preferences."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noisy_feedback.rating_model import RatingModel as RatingModel

__all__ = ["RatingModel"]


def __getattr__(name: str) -> Any:
    if name != "RatingModel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from noisy_feedback.rating_model import RatingModel  # imports torch: only when it is asked for

    return RatingModel
