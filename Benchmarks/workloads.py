"""The table of workloads: inputs, and the same loss for PyTorch and for JAX. To add one, add an entry here.

An input has the name of its role, with `_` for `-` where it is an argument of a formula. A formula gets its framework
as an argument, so that neither worker imports the other's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray
Inputs = dict[str, Array]
Dimensions = Mapping[str, int]
Random = np.random.Generator
Formula = Callable[..., Any]
"""Takes the inputs by role, gives the cost."""


@dataclass(frozen=True)
class Workload:
    loss: str
    """The name under which `bench serve` knows it."""
    dimensions: Dimensions
    smoke: Dimensions
    make: Callable[[Random, Dimensions], Inputs]
    differentiable: tuple[str, ...]
    torch: Callable[[Any], Formula]
    jax: Callable[[Any, Any], Formula]
    """From the modules jax and optax."""
    options: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Callable[[Any], Formula]] = field(default_factory=dict)
    """Further peers that run on eager PyTorch."""
    tolerance: float = 1e-5
    """Of the cost, relative; of the gradients, relative to the largest component: float32 against float64."""
    peer_bytes: Callable[[Dimensions], int] = lambda _: 0
    """What a peer must hold beside inputs and gradients, where that decides whether it can run at all."""
    variant: str = ""

    @property
    def name(self) -> str:
        shape = "x".join(str(size) for size in self.dimensions.values())
        return "-".join(filter(None, [self.loss, self.variant, shape]))

    def save_inputs(self, directory: Path, dimensions: Dimensions) -> dict[str, str]:
        """The same values on every call and machine, as files by role."""
        random = np.random.default_rng(list(self.name.encode()))
        files = {}
        for role, values in self.make(random, dimensions).items():
            files[role] = str(directory / f"{role}.npy")
            np.save(files[role], values)
        return files

    def load_request(self, inputs: Mapping[str, str], workers: int) -> dict[str, Any]:
        options = {"reduction": "mean"} | dict(self.options)
        return {
            "name": self.loss,
            "workload": self.name,
            "inputs": dict(inputs),
            "options": options,
            "workers": workers,
        }


def normal(random: Random, *shape: int, scale: float = 1.0) -> Array:
    values = random.standard_normal(shape, dtype=np.float32)
    values *= np.float32(scale)
    return values


def labels(random: Random, rows: int, classes: int) -> Array:
    return random.integers(0, classes, rows)


# MARK: - Element-wise losses


def regression_inputs(random: Random, size: Dimensions) -> Inputs:
    predictions = normal(random, size["rows"], size["columns"])
    targets = normal(random, size["rows"], size["columns"])
    # The absolute error's slope at 0 is 0 here and in PyTorch, and 1 in JAX.
    targets[predictions == targets] += 1
    return {"predictions": predictions, "targets": targets}


def binary_inputs(random: Random, size: Dimensions) -> Inputs:
    logits = normal(random, size["rows"], size["columns"], scale=3)
    return {"logits": logits, "targets": (random.random(logits.shape, dtype=np.float32) < 0.5).astype(np.float32)}


def huber_jax(jax: Any, optax: Any) -> Formula:
    return lambda predictions, targets: optax.huber_loss(predictions, targets, delta=1.0).mean()


def element_wise(loss: str, **entry: Any) -> Workload:
    return Workload(
        loss=loss,
        dimensions={"rows": 4096, "columns": 4096},
        smoke={"rows": 37, "columns": 33},
        **entry,
    )


ELEMENT_WISE = [
    element_wise(
        "mean-squared-error",
        make=regression_inputs,
        differentiable=("predictions",),
        torch=lambda torch: lambda predictions, targets: torch.nn.functional.mse_loss(predictions, targets),
        jax=lambda jax, optax: lambda predictions, targets: optax.squared_error(predictions, targets).mean(),
    ),
    element_wise(
        "mean-absolute-error",
        make=regression_inputs,
        differentiable=("predictions",),
        torch=lambda torch: lambda predictions, targets: torch.nn.functional.l1_loss(predictions, targets),
        jax=lambda jax, optax: lambda predictions, targets: jax.numpy.abs(predictions - targets).mean(),
    ),
    element_wise(
        "huber",
        make=regression_inputs,
        differentiable=("predictions",),
        options={"delta": 1.0},
        torch=lambda torch: lambda predictions, targets: torch.nn.functional.huber_loss(predictions, targets),
        jax=huber_jax,
    ),
    element_wise(
        "binary-cross-entropy",
        make=binary_inputs,
        differentiable=("logits",),
        torch=lambda torch: (
            lambda logits, targets: torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
        ),
        jax=lambda jax, optax: lambda logits, targets: optax.sigmoid_binary_cross_entropy(logits, targets).mean(),
    ),
]


# MARK: - Softmax cross-entropy and KL divergence


def softmax_inputs(random: Random, size: Dimensions) -> Inputs:
    rows, columns = size["rows"], size["columns"]
    return {"logits": normal(random, rows, columns, scale=2), "targets": labels(random, rows, columns)}


def softmax(rows: int, columns: int) -> Workload:
    return Workload(
        loss="softmax-cross-entropy",
        dimensions={"rows": rows, "columns": columns},
        smoke={"rows": 37, "columns": min(columns, 1003)},
        make=softmax_inputs,
        differentiable=("logits",),
        torch=lambda torch: lambda logits, targets: torch.nn.functional.cross_entropy(logits, targets),
        jax=lambda jax, optax: (
            lambda logits, targets: optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()
        ),
    )


def smoothed_inputs(random: Random, size: Dimensions) -> Inputs:
    weights = random.uniform(0.5, 2, size["columns"]).astype(np.float32)
    return softmax_inputs(random, size) | {"class-weights": weights}


SMOOTHING = 0.1


def smoothed_torch(torch: Any) -> Formula:
    return lambda logits, targets, class_weights: torch.nn.functional.cross_entropy(
        logits, targets, weight=class_weights, label_smoothing=SMOOTHING
    )


def smoothed_jax(jax: Any, optax: Any) -> Formula:
    jnp = jax.numpy

    def cost(logits: Any, targets: Any, class_weights: Any) -> Any:
        log_p = jax.nn.log_softmax(logits)
        of_label = jnp.take_along_axis(log_p, targets[:, None], axis=1)[:, 0]
        weights = class_weights[targets]
        rows = (1 - SMOOTHING) * weights * of_label + SMOOTHING / logits.shape[1] * (log_p @ class_weights)
        return -rows.sum() / weights.sum()

    return cost


def kl_inputs(random: Random, size: Dimensions) -> Inputs:
    rows, columns = size["rows"], size["columns"]
    return {
        "logits": normal(random, rows, columns, scale=2),
        "target-logits": normal(random, rows, columns, scale=2),
    }


def kl_torch(torch: Any) -> Formula:
    F = torch.nn.functional
    return lambda logits, target_logits: F.kl_div(
        F.log_softmax(logits, 1), F.log_softmax(target_logits, 1), reduction="batchmean", log_target=True
    )


def kl_jax(jax: Any, optax: Any) -> Formula:
    return lambda logits, target_logits: optax.losses.kl_divergence_with_log_targets(
        jax.nn.log_softmax(logits), jax.nn.log_softmax(target_logits)
    ).mean()


ROW_WISE = [
    softmax(65536, 10),
    softmax(8192, 1000),
    softmax(1024, 32000),
    softmax(256, 128256),
    Workload(
        loss="softmax-cross-entropy",
        variant="smoothed",
        dimensions={"rows": 8192, "columns": 1000},
        smoke={"rows": 37, "columns": 33},
        make=smoothed_inputs,
        differentiable=("logits",),
        options={"labelSmoothing": SMOOTHING},
        torch=smoothed_torch,
        jax=smoothed_jax,
    ),
    Workload(
        loss="kl-divergence",
        dimensions={"rows": 8192, "columns": 1000},
        smoke={"rows": 37, "columns": 33},
        make=kl_inputs,
        differentiable=("logits", "target-logits"),
        options={"reduction": "batchMean"},
        torch=kl_torch,
        jax=kl_jax,
    ),
]

WORKLOADS: dict[str, Workload] = {w.name: w for w in [*ELEMENT_WISE, *ROW_WISE]}


def arguments(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {role.replace("-", "_"): value for role, value in inputs.items()}
