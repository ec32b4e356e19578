"""A small classifier that is trained on true labels, to judge new images. No model of clusters ever sees it."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BATCH = 256


class Judge(nn.Module):
    """Two conv layers and a dense one; its 128 features are what generated images are measured in.

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

    def classes(self, images: np.ndarray) -> np.ndarray:
        """Most likely class of each image (N, H, W, C), shape (N,)."""
        return self._over(self, images).argmax(1)

    def features(self, images: np.ndarray) -> np.ndarray:
        """Features (N, 128) of images (N, H, W, C)."""
        return self._over(self.body, images)

    def _over(self, function: nn.Module, images: np.ndarray) -> np.ndarray:
        parts = np.array_split(images, -(-len(images) // 1000))
        with torch.inference_mode():
            result: np.ndarray = torch.cat([function(_as_tensor(part)) for part in parts]).numpy()
        return result


def trained_judge(images: np.ndarray, labels: np.ndarray, epochs: int = 5) -> tuple[Judge, float]:
    """A judge of images (N, H, W, C) with classes (N,), and its accuracy on the tenth of them that it has not seen."""
    held_out = np.arange(len(images)) % 10 == 0
    rows, order = np.flatnonzero(~held_out), np.random.default_rng(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        judge = Judge(images.shape[1:], int(labels.max()) + 1)
        optimizer = torch.optim.Adam(judge.parameters(), 2e-3)
        for _ in range(epochs):
            for batch in np.array_split(order.permutation(rows), max(1, len(rows) // _BATCH)):
                loss = F.cross_entropy(judge(_as_tensor(images[batch])), torch.from_numpy(labels[batch]))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    judge.eval()
    return judge, float((judge.classes(images[held_out]) == labels[held_out]).mean())


def _as_tensor(images: np.ndarray) -> Tensor:
    scale = 255 if images.dtype == np.uint8 else 1
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / scale
