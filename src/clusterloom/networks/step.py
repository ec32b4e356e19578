"""What a network tells the training loop of a batch."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class StepOutput:
    """What a training step needs to know of a batch.

    Attributes:
        terms: Weighted loss terms by name, each in nats per image, shape (B,); their sum is the loss.
        q: Soft assignments, shape (B, K), without gradient; None where a stage has none yet.
    """

    terms: dict[str, Tensor]
    q: Tensor | None = None
