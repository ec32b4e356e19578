"""A small classifier, trained on true labels to say what new images show. No model of clusters ever sees it."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BATCH = 256
_FORWARD_BATCH = 1000


class Classifier(nn.Module):
    """Two conv layers and a dense one; its 128 features are what new images are measured in.

    Args:
        image_shape: Height, width, channels.
        n_classes: Number of classes.
    """

    def __init__(self, image_shape: tuple[int, ...], n_classes: int) -> None:
        super().__init__()
        height, width, channels = image_shape
        flat = 64 * ((height + 3) // 4) * ((width + 3) // 4)
        self.body = nn.Sequential(
            nn.Conv2d(channels, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU(),
            nn.Flatten(), nn.Linear(flat, 128), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(128, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, n_classes) of images (B, C, H, W) in [0, 1]."""
        return self.head(self.body(x))

    @torch.inference_mode()
    def classes(self, images: np.ndarray) -> np.ndarray:
        """Most likely class of each image (N, H, W, C), shape (N,)."""
        return self.head(self._features(images)).argmax(1).numpy()

    def features(self, images: np.ndarray) -> np.ndarray:
        """Features (N, 128) of images (N, H, W, C)."""
        return self._features(images).numpy()

    @torch.inference_mode()
    def _features(self, images: np.ndarray) -> Tensor:
        batches = np.array_split(images, -(-len(images) // _FORWARD_BATCH))
        return torch.cat([self.body(_as_tensor(batch)) for batch in batches])


def trained_classifier(images: np.ndarray, labels: np.ndarray, epochs: int = 5) -> tuple[Classifier, float]:
    """A classifier of images (N, H, W, C) with classes (N,), and its accuracy on the tenth that it did not see."""
    held_out = np.arange(len(images)) % 10 == 0
    rows, order = np.flatnonzero(~held_out), np.random.default_rng(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = Classifier(images.shape[1:], int(labels.max()) + 1)
        optimizer = torch.optim.Adam(classifier.parameters(), 2e-3)
        for _ in range(epochs):
            for batch in np.array_split(order.permutation(rows), max(1, len(rows) // _BATCH)):
                loss = F.cross_entropy(classifier(_as_tensor(images[batch])), torch.from_numpy(labels[batch]))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    classifier.eval()
    return classifier, float((classifier.classes(images[held_out]) == labels[held_out]).mean())


def _as_tensor(images: np.ndarray) -> Tensor:
    scale = 255 if images.dtype == np.uint8 else 1
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / scale
