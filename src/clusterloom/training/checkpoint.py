"""Checkpoints of an unfinished run: written so that a kill at any moment leaves the old one or the new one, whole.

A checkpoint is one safetensors file (weights, optimiser moments, running sums) whose header carries the position in
the run and a hash of the tensors. Everything random in a run derives from its seed and that position.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from clusterloom.errors import ModelError
from clusterloom.files import write_atomically
from clusterloom.training.adamw import AdamW
from clusterloom.training.sums import Position


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: AdamW,
    sums: dict[str, Tensor],
    position: Position,
    run_id: str,
) -> None:
    """Write everything that a run needs to go on; atomic.

    Args:
        path: The file; its folder must exist.
        model: Its parameters and buffers are saved.
        optimizer: Its moments are saved under the names of the model's parameters.
        sums: Running sums of the current epoch.
        position: Where the run stands.
        run_id: Identifies settings and data; `read_checkpoint` refuses another one.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        tensors |= {f"optimizer.{name}.{key}": value for key, value in optimizer.state.get(parameter, {}).items()}
    tensors |= {f"sums.{name}": value for name, value in sums.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"position": json.dumps(asdict(position)), "run_id": run_id, "sha256": _digest(tensors)}
    write_atomically(path, safetensors.torch.save(tensors, metadata))


def read_checkpoint(path: Path, run_id: str) -> tuple[dict[str, Tensor], Position]:
    """What `save_checkpoint` wrote: tensors for `restore`, and where the run stands.

    Args:
        path: The file.
        run_id: What `save_checkpoint` was given.

    Raises:
        ModelError: the file is damaged, or of another run.
    """
    tensors, metadata = _read(path, run_id)
    try:
        return tensors, Position(**json.loads(metadata["position"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: not a readable checkpoint ({error}); begin again with resume=False") from error


def restore(tensors: dict[str, Tensor], model: nn.Module, optimizer: AdamW) -> dict[str, Tensor]:
    """Put a checkpoint back into `model` and `optimizer`, in place.

    Args:
        tensors: From `read_checkpoint`.
        model: Built from the same settings.
        optimizer: Of the same kind, over the model's parameters.

    Returns:
        The running sums of the current epoch.
    """
    model.load_state_dict(_below(tensors, "model."))
    for name, parameter in model.named_parameters():
        state = _below(tensors, f"optimizer.{name}.")
        if state:
            # Moments must have the memory layout of their parameter: fused optimisers walk both as flat memory. They
            # keep the number of steps on the parameter's device too.
            optimizer.state[parameter] = {
                key: torch.empty_like(parameter).copy_(value)
                if value.shape == parameter.shape
                else value.to(parameter.device)
                for key, value in state.items()
            }
    device = next(model.parameters()).device
    return {name: value.to(device) for name, value in _below(tensors, "sums.").items()}


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray], run_id: str) -> None:
    """Write what a stage without training found; atomic.

    Args:
        path: The file; its folder must exist.
        arrays: By name.
        run_id: Identifies settings and data; `load_arrays` refuses another one.
    """
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    write_atomically(path, safetensors.torch.save(tensors, {"run_id": run_id, "sha256": _digest(tensors)}))


def load_arrays(path: Path, run_id: str) -> dict[str, np.ndarray]:
    """What `save_arrays` wrote.

    Raises:
        ModelError: the file is damaged, or of another run.
    """
    return {name: tensor.numpy() for name, tensor in _read(path, run_id)[0].items()}


def is_checkpoint(path: Path) -> bool:
    """Whether a file is one that `save_checkpoint` or `save_arrays` wrote."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return "run_id" in (file.metadata() or {})
    except (OSError, safetensors.SafetensorError):
        return False


def _read(path: Path, run_id: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path}: not a readable checkpoint ({error}); begin again with resume=False") from error
    if metadata.get("sha256") != _digest(tensors):
        raise ModelError(f"{path}: the checkpoint's hash does not match its contents; begin again with resume=False")
    if metadata.get("run_id") != run_id:
        raise ModelError(
            f"{path}: the checkpoint belongs to other settings or other images; "
            "use the same ones, or begin again with resume=False"
        )
    return tensors, metadata


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
