"""Writes ctc.json beside this file: CTC losses and gradients from PyTorch in float64.

    pip install -r requirements.txt && python generate_ctc.py

A case holds `logits` (batch-major rows of classes, exact in float32), padded `targets`, `inputLengths`,
`targetLengths`, `blank` and perhaps `weights` of utterances, and what must come out: `losses` (null where an alignment
is impossible), the `mean` and `sum` of the feasible ones (infeasible count as 0, as with zero_infinity), and the
gradient of the mean. Losses are weighted, and the mean is over the sum of the weights.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.manual_seed(7)


def required(labels: list[int]) -> int:
    return len(labels) + sum(a == b for a, b in itertools.pairwise(labels))


def case(
    name: str,
    *,
    batch: int,
    time: int,
    classes: int,
    width: int,
    blank: int = 0,
    deviation: float = 1.0,
    repeats: bool = False,
    full: bool = False,
    weights: list[float] | None = None,
) -> dict[str, Any]:
    logits = (torch.randn(batch, time, classes) * deviation).float().double().requires_grad_(True)
    others = torch.tensor([k for k in range(classes) if k != blank])
    targets = others[torch.randint(len(others), (batch, width))]
    if repeats:
        targets = targets[:, :1].expand(batch, width).contiguous()
    inputs = torch.full((batch,), time) if full else torch.randint(0, time + 1, (batch,))
    lengths = torch.full((batch,), width) if full else torch.randint(0, width + 1, (batch,))
    losses = []
    # PyTorch reads padded frames; utterance by utterance it cannot.
    for u in range(batch):
        labels = targets[u, : lengths[u]].tolist()
        if required(labels) > int(inputs[u]):
            losses.append(None)
            continue
        frames = F.log_softmax(logits[u, : inputs[u]], -1).unsqueeze(1)
        loss = (
            torch.zeros(())
            if len(frames) == 0
            else F.ctc_loss(
                frames,
                targets[u : u + 1, : lengths[u]],
                inputs[u : u + 1],
                lengths[u : u + 1],
                blank=blank,
                reduction="none",
            )[0]
        )
        losses.append(loss if weights is None else loss * weights[u])
    feasible = [(loss, max(int(n), 1)) for loss, n in zip(losses, lengths, strict=True) if loss is not None]
    mean = sum((loss / n for loss, n in feasible), torch.zeros(())) / (batch if weights is None else sum(weights))
    if mean.requires_grad:
        mean.backward()
    gradient = torch.zeros_like(logits) if logits.grad is None else logits.grad
    assert math.isfinite(mean.item()) and gradient.isfinite().all()
    return {
        "name": name,
        "batch": batch,
        "time": time,
        "classes": classes,
        "blank": blank,
        "logits": logits.detach().flatten().tolist(),
        "targets": targets.flatten().tolist(),
        "inputLengths": inputs.tolist(),
        "targetLengths": lengths.tolist(),
        "losses": [None if loss is None else float(loss) for loss in losses],
        "mean": mean.item(),
        "sum": float(sum(float(loss) for loss, _ in feasible)),
        "gradient": [float(f"{g:.12g}") for g in gradient.flatten().tolist()],
    } | ({} if weights is None else {"weights": weights})


CASES = [
    case("full lengths", batch=3, time=9, classes=6, width=3, full=True),
    case("mixed lengths", batch=6, time=8, classes=5, width=4),
    case("blank last", batch=4, time=7, classes=4, width=3, blank=3),
    case("blank in the middle", batch=4, time=7, classes=17, width=3, blank=8),
    case("one label repeated", batch=4, time=11, classes=3, width=5, repeats=True, full=True),
    case("standard deviation 20", batch=3, time=10, classes=7, width=4, deviation=20, full=True),
    case("standard deviation 100", batch=3, time=12, classes=5, width=4, deviation=100, full=True),
    case("too many labels, and none", batch=2, time=30, classes=4, width=18),
    case("many classes", batch=1, time=6, classes=130, width=3, blank=70, deviation=3, full=True),
    case("more labels than a vector", batch=2, time=40, classes=4, width=18, full=True),
    case("weights", batch=5, time=9, classes=5, width=3, weights=[0.5, 2, -0.25, 1, 3]),
]

if __name__ == "__main__":
    path = Path(__file__).with_name("ctc.json")
    rows = ",\n".join(json.dumps(c, separators=(",", ":")) for c in CASES)
    path.write_text(f'{{"source":"torch {torch.__version__.split("+")[0]} float64","cases":[\n{rows}\n]}}\n')
