"""The last layer of the category encoder learns on its own, when all else is settled."""

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax

from clusterloom.data.images import limited_rows
from clusterloom.networks.vae import ClusterVAE

_LEARNED_FROM = 20_000  # images at most
_STEPS = 60


def learn_last_layer(network: ClusterVAE, hidden: np.ndarray, targets: np.ndarray, stay: float) -> None:
    """Let the last layer learn soft assignments, and stay near where it was.

    Args:
        network: The model; changed in place.
        hidden: The category encoder's hidden layer, of images, shape (N, H).
        targets: Soft assignments, shape (N, K).
        stay: What a change of weights costs, beside the cross-entropy.
    """
    last = network.category_output
    some = limited_rows(len(hidden), _LEARNED_FROM)
    points, wanted = hidden[some].astype(float), targets[some]
    before = torch.cat([last.weight, last.bias[:, None]], 1).detach().cpu().double().numpy()  # (K, H + 1)
    cost = stay * np.mean(points**2)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = np.split(flat.reshape(before.shape), [-1], axis=1)
        log_q = log_softmax(points @ weight.T + bias.T, axis=1)
        error = (np.exp(log_q) - wanted) / len(points)
        moved = weight - before[:, :-1]
        gradient = np.hstack([error.T @ points + 2 * cost * moved, error.sum(0)[:, None]])
        return float(cost * np.sum(moved**2) - np.sum(wanted * log_q) / len(points)), gradient.ravel()

    # By scipy, since torch's own would bring in its compiler.
    found = minimize(loss, before.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}).x
    weight, bias = np.split(found.reshape(before.shape), [-1], axis=1)
    with torch.no_grad():
        last.weight.copy_(torch.from_numpy(weight))
        last.bias.copy_(torch.from_numpy(bias[:, 0]))


def logits_of(network: ClusterVAE, hidden: np.ndarray) -> np.ndarray:
    """Logits (N, K) of a hidden layer (N, H)."""
    last = network.category_output
    with torch.no_grad():
        logits: np.ndarray = last(torch.from_numpy(hidden).to(last.weight)).cpu().numpy()
    return logits
