"""Prints the largest errors of CTC gradients in float32, of ours and of PyTorch, against PyTorch in float64.

The table is the one of docs/losses.md. Needs the environment of setup.sh and a built bench.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from participants import Child, ParticipantError, ours

BENCH = Path(__file__).parent.parent / ".build/release/bench"
UTTERANCES = 4
BATCHES = 3
# Frames, classes, labels, standard deviation of the logits.
SHAPES = [
    *((1000, classes, 200, deviation) for classes in (32, 200) for deviation in (1, 20, 100)),
    (4000, 32, 200, 100),
    (150, 5000, 20, 1),
]


def by_torch(logits: np.ndarray, targets: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    leaf = torch.from_numpy(logits).to(dtype).requires_grad_(True)
    log_p = F.log_softmax(leaf, 2).transpose(0, 1)
    batch, time, _ = logits.shape
    lengths = ((time,) * batch, (targets.shape[1],) * batch)
    F.ctc_loss(log_p, torch.from_numpy(targets), *lengths, reduction="sum").backward()
    assert leaf.grad is not None
    return leaf.grad.numpy()


def by_ours(child: Child, folder: Path, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    inputs = {"logits": logits, "targets": targets}
    for role, values in inputs.items():
        np.save(folder / f"{role}.npy", values)
    files = {role: str(folder / f"{role}.npy") for role in inputs}
    child.request("load", name="ctc", inputs=files, options={"reduction": "sum", "blank": 0}, workers=2)
    child.request("run")
    return np.load(child.request("gradient", path=str(folder / "gradient.npy"))["gradients"]["logits"])


def main() -> None:
    random = np.random.default_rng(11)
    print("| frames × classes, labels | standard deviation | here | PyTorch in float32 |\n|---|---|---|---|")
    child = Child(ours(BENCH), 2)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for time, classes, labels, deviation in SHAPES:
                errors = np.zeros(2)
                for _ in range(BATCHES):
                    shape = (UTTERANCES, time, classes)
                    logits = random.standard_normal(shape, dtype=np.float32) * np.float32(deviation)
                    targets = random.integers(1, classes, (UTTERANCES, labels))
                    truth = by_torch(logits, targets, torch.float64)
                    found = by_ours(child, Path(scratch), logits, targets), by_torch(logits, targets, torch.float32)
                    errors = np.maximum(errors, [np.abs(values - truth).max() for values in found])
                print(f"| {time} × {classes}, {labels} | {deviation} | {errors[0]:.1e} | {errors[1]:.1e} |", flush=True)
    finally:
        child.close()


if __name__ == "__main__":
    try:
        main()
    except (ParticipantError, OSError) as error:
        sys.exit(f"ctc_accuracy: {error}")
