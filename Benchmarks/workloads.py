"""The table of workloads: inputs, and the same loss for PyTorch and for JAX. To add one, add an entry here.

An input has the name of its role, with `_` for `-` where it is an argument of a formula. A formula gets its framework
as an argument, so that neither worker imports the other's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

Array = np.ndarray
Inputs = dict[str, Array]
Dimensions = Mapping[str, int]
Random = np.random.Generator
Formula = Callable[..., Any]
"""Takes the inputs by role, gives the cost; or a matrix of distances, where nothing is differentiable."""
DISTANCES = "distances"
"""The name of that matrix, which is compared in place of gradients."""


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
    """Of the cost, relative: float32 against float64."""
    gradient_tolerance: float = 1e-5
    """Of the error that `gradient_measure` takes."""
    gradient_measure: Literal["largest", "norm", "most rows"] = "largest"
    """The largest error relative to the largest component; or, where rounding may choose another of two candidates that
    all but tie, the norm of the error relative to that of the gradient; or, where it does so in many rows of a batch,
    the largest error of three rows of four, with a norm that is right to a tenth."""
    peer_bytes: Callable[[Dimensions], int] = lambda _: 0
    """What a peer must hold beside inputs and gradients, where that decides whether it can run at all."""
    variant: str = ""
    plain: Workload | None = None
    """The workload without its options, that ours is timed beside in the same rounds."""

    @property
    def name(self) -> str:
        shape = "x".join(str(size) for size in self.dimensions.values())
        return "-".join(filter(None, [self.loss, self.variant, shape]))

    @property
    def names(self) -> set[str]:
        """As in `bench list`: that of the loss or of its suite, which are all its shapes, or of a variant."""
        if self.variant:
            return {f"{self.loss}-{self.variant}"}
        return {self.loss, f"{self.loss}-suite"}

    def reduced(self, dimensions: Dimensions, memory: int) -> Dimensions:
        """The shape with as many rows as a reference in float64 can hold."""
        while 2 * self.peer_bytes(dimensions) > memory:
            dimensions = {**dimensions, "rows": dimensions["rows"] // 2}
        return dimensions

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


def sign_inputs(random: Random, size: Dimensions) -> Inputs:
    predictions = normal(random, size["rows"], size["columns"], scale=2)
    targets = random.choice(np.array([-1, 1], np.float32), predictions.shape)
    # At the margin itself the slope is 0 here and in PyTorch, and half of that beyond in JAX.
    predictions[predictions * targets == 1] += 1
    return {"predictions": predictions, "targets": targets}


def count_inputs(random: Random, size: Dimensions) -> Inputs:
    predictions = normal(random, size["rows"], size["columns"])
    return {"predictions": predictions, "targets": random.poisson(2, predictions.shape).astype(np.float32)}


def probability_inputs(random: Random, size: Dimensions) -> Inputs:
    targets = binary_inputs(random, size)["targets"]
    probabilities = random.uniform(0.001, 0.999, targets.shape).astype(np.float32)
    return {"probabilities": probabilities, "targets": targets}


def log_cosh_torch(torch: Any) -> Formula:
    def cost(predictions: Any, targets: Any) -> Any:
        magnitude = (predictions - targets).abs()
        return (magnitude + torch.nn.functional.softplus(-2 * magnitude) - math.log(2)).mean()

    return cost


QUANTILE = 0.9


def quantile_torch(torch: Any) -> Formula:
    def cost(predictions: Any, targets: Any) -> Any:
        error = targets - predictions
        return torch.maximum(QUANTILE * error, (QUANTILE - 1) * error).mean()

    return cost


def quantile_jax(jax: Any, optax: Any) -> Formula:
    def cost(predictions: Any, targets: Any) -> Any:
        error = targets - predictions
        return jax.numpy.maximum(QUANTILE * error, (QUANTILE - 1) * error).mean()

    return cost


FOCAL = {"alpha": 0.25, "gamma": 2.0}


def focal_torch(torch: Any) -> Formula:
    F = torch.nn.functional

    def cost(logits: Any, targets: Any) -> Any:
        probabilities = torch.sigmoid(logits)
        wrong = probabilities * (1 - targets) + (1 - probabilities) * targets
        weight = FOCAL["alpha"] * targets + (1 - FOCAL["alpha"]) * (1 - targets)
        entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return (weight * wrong ** FOCAL["gamma"] * entropy).mean()

    return cost


def probabilities_jax(jax: Any, optax: Any) -> Formula:
    jnp = jax.numpy

    def cost(probabilities: Any, targets: Any) -> Any:
        return -(targets * jnp.log(probabilities) + (1 - targets) * jnp.log1p(-probabilities)).mean()

    return cost


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
    element_wise(
        "binary-cross-entropy-probabilities",
        make=probability_inputs,
        differentiable=("probabilities",),
        torch=lambda torch: (
            lambda probabilities, targets: torch.nn.functional.binary_cross_entropy(probabilities, targets)
        ),
        jax=probabilities_jax,
    ),
    element_wise(
        "focal",
        make=binary_inputs,
        differentiable=("logits",),
        options=FOCAL,
        torch=focal_torch,
        jax=lambda jax, optax: lambda logits, targets: optax.sigmoid_focal_loss(logits, targets, **FOCAL).mean(),
    ),
    element_wise(
        "smooth-l1",
        make=regression_inputs,
        differentiable=("predictions",),
        options={"beta": 1.0},
        torch=lambda torch: lambda predictions, targets: torch.nn.functional.smooth_l1_loss(predictions, targets),
        jax=huber_jax,
    ),
    element_wise(
        "log-cosh",
        make=regression_inputs,
        differentiable=("predictions",),
        torch=log_cosh_torch,
        jax=lambda jax, optax: lambda predictions, targets: optax.log_cosh(predictions, targets).mean(),
    ),
    element_wise(
        "quantile",
        make=regression_inputs,
        differentiable=("predictions",),
        options={"quantile": QUANTILE},
        torch=quantile_torch,
        jax=quantile_jax,
    ),
    element_wise(
        "poisson",
        make=count_inputs,
        differentiable=("predictions",),
        torch=lambda torch: lambda predictions, targets: torch.nn.functional.poisson_nll_loss(predictions, targets),
        jax=lambda jax, optax: (
            lambda predictions, targets: (jax.numpy.exp(predictions) - targets * predictions).mean()
        ),
    ),
    element_wise(
        "hinge",
        make=sign_inputs,
        differentiable=("predictions",),
        torch=lambda torch: lambda predictions, targets: torch.relu(1 - targets * predictions).mean(),
        jax=lambda jax, optax: lambda predictions, targets: optax.hinge_loss(predictions, targets).mean(),
    ),
    element_wise(
        "squared-hinge",
        make=sign_inputs,
        differentiable=("predictions",),
        torch=lambda torch: lambda predictions, targets: torch.relu(1 - targets * predictions).square().mean(),
        jax=lambda jax, optax: (
            lambda predictions, targets: jax.numpy.square(optax.hinge_loss(predictions, targets)).mean()
        ),
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


def weighted_inputs(random: Random, size: Dimensions) -> Inputs:
    weights = random.uniform(0.5, 2, size["columns"]).astype(np.float32)
    return softmax_inputs(random, size) | {"class-weights": weights}


def distributions(random: Random, rows: int, columns: int) -> Array:
    shares = random.random((rows, columns), dtype=np.float32)
    return shares / shares.sum(axis=1, keepdims=True)


def distribution_inputs(random: Random, size: Dimensions) -> Inputs:
    rows, columns = size["rows"], size["columns"]
    return {"logits": normal(random, rows, columns, scale=2), "targets": distributions(random, rows, columns)}


SMOOTHING = 0.1
CAP = 30.0


def softmax_torch(**options: Any) -> Callable[[Any], Formula]:
    return lambda torch: lambda logits, targets, class_weights=None: torch.nn.functional.cross_entropy(
        logits, targets, weight=class_weights, **options
    )


def softmax_jax(smoothing: float) -> Callable[[Any, Any], Formula]:
    def formula(jax: Any, optax: Any) -> Formula:
        jnp = jax.numpy

        def cost(logits: Any, targets: Any, class_weights: Any = None) -> Any:
            log_p = jax.nn.log_softmax(logits)
            of_label = jnp.take_along_axis(log_p, targets[:, None], axis=1)[:, 0]
            if class_weights is None:
                weights, of_others = jnp.ones_like(of_label), log_p.sum(axis=1)
            else:
                weights, of_others = class_weights[targets], log_p @ class_weights
            rows = (1 - smoothing) * weights * of_label
            if smoothing != 0:
                rows += smoothing / logits.shape[1] * of_others
            return -rows.sum() / weights.sum()

        return cost

    return formula


def softmax_variant(name: str, **others: Any) -> Workload:
    return Workload(
        loss="softmax-cross-entropy",
        variant=name,
        plain=softmax(8192, 1000),
        dimensions={"rows": 8192, "columns": 1000},
        smoke={"rows": 37, "columns": 33},
        differentiable=("logits",),
        **others,
    )


def kl_probability_inputs(random: Random, size: Dimensions) -> Inputs:
    rows, columns = size["rows"], size["columns"]
    return {
        "log-probabilities": np.log(distributions(random, rows, columns) + np.float32(1e-6)),
        "targets": distributions(random, rows, columns),
    }


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
    softmax_variant(
        "smoothed",
        make=weighted_inputs,
        options={"labelSmoothing": SMOOTHING},
        torch=softmax_torch(label_smoothing=SMOOTHING),
        jax=softmax_jax(SMOOTHING),
    ),
    softmax_variant(
        "label-smoothing",
        make=softmax_inputs,
        options={"labelSmoothing": SMOOTHING},
        torch=softmax_torch(label_smoothing=SMOOTHING),
        jax=softmax_jax(SMOOTHING),
    ),
    softmax_variant("weighted", make=weighted_inputs, torch=softmax_torch(), jax=softmax_jax(0)),
    softmax_variant(
        "capped",
        make=softmax_inputs,
        options={"softCap": CAP},
        torch=lambda torch: lambda logits, targets: torch.nn.functional.cross_entropy(
            CAP * torch.tanh(logits / CAP), targets
        ),
        jax=lambda jax, optax: lambda logits, targets: optax.softmax_cross_entropy_with_integer_labels(
            CAP * jax.numpy.tanh(logits / CAP), targets
        ).mean(),
    ),
    softmax_variant(
        "probabilities",
        make=distribution_inputs,
        torch=softmax_torch(),
        jax=lambda jax, optax: lambda logits, targets: optax.softmax_cross_entropy(logits, targets).mean(),
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
    Workload(
        loss="kl-divergence",
        variant="probabilities",
        dimensions={"rows": 8192, "columns": 1000},
        smoke={"rows": 37, "columns": 33},
        make=kl_probability_inputs,
        differentiable=("log-probabilities",),
        options={"reduction": "batchMean"},
        torch=lambda torch: lambda log_probabilities, targets: torch.nn.functional.kl_div(
            log_probabilities, targets, reduction="batchmean"
        ),
        jax=lambda jax, optax: lambda log_probabilities, targets: optax.losses.kl_divergence(
            log_probabilities, targets
        ).mean(),
    ),
]

# MARK: - Losses on embeddings


def embeddings(random: Random, rows: int, columns: int) -> Array:
    """Their distances lie about 1, so that a margin of 1 leaves some pairs inside and some outside."""
    return normal(random, rows, columns, scale=(2 * columns) ** -0.5)


def labelled_inputs(random: Random, size: Dimensions) -> Inputs:
    # Every class has the same number of members: each anchor has a positive and a negative.
    return {
        "embeddings": embeddings(random, size["rows"], size["columns"]),
        "labels": random.permutation(np.arange(size["rows"]) % size["classes"]),
    }


def pair_inputs(random: Random, size: Dimensions) -> Inputs:
    return {
        "first": embeddings(random, size["rows"], size["columns"]),
        "second": embeddings(random, size["rows"], size["columns"]),
        "same": random.integers(0, 2, size["rows"]),
    }


def triplet_inputs(random: Random, size: Dimensions) -> Inputs:
    return {role: embeddings(random, size["rows"], size["columns"]) for role in ("anchors", "positives", "negatives")}


def matched_inputs(random: Random, size: Dimensions) -> Inputs:
    queries = normal(random, size["rows"], size["columns"])
    return {"queries": queries, "keys": queries + normal(random, size["rows"], size["columns"])}


def distances_inputs(random: Random, size: Dimensions) -> Inputs:
    return {"embeddings": embeddings(random, size["rows"], size["columns"])}


def distances_jax(jax: Any, optax: Any) -> Formula:
    jnp = jax.numpy
    return lambda embeddings: jnp.sqrt(jnp.maximum(squared_distances(embeddings), 0))


def distances_faiss(torch: Any) -> Formula:
    import faiss

    def distances(embeddings: Any) -> Any:
        rows = embeddings.numpy()
        squared = faiss.pairwise_distances(rows, rows)
        # Rounding leaves some of them below 0.
        np.maximum(squared, 0, out=squared)
        return torch.from_numpy(np.sqrt(squared, out=squared))

    return distances


def distances_scikit_learn(torch: Any) -> Formula:
    from sklearn.metrics.pairwise import euclidean_distances

    return lambda embeddings: torch.from_numpy(euclidean_distances(embeddings.numpy()))


def contrastive_pairs_torch(torch: Any) -> Formula:
    def cost(first: Any, second: Any, same: Any) -> Any:
        squared = (first - second).square().sum(1)
        apart = torch.relu(1 - squared.sqrt()).square()
        return 0.5 * torch.where(same == 1, squared, apart).mean()

    return cost


def contrastive_pairs_jax(jax: Any, optax: Any) -> Formula:
    jnp = jax.numpy

    def cost(first: Any, second: Any, same: Any) -> Any:
        squared = jnp.square(first - second).sum(1)
        apart = jnp.square(jax.nn.relu(1 - jnp.sqrt(squared)))
        return 0.5 * jnp.where(same == 1, squared, apart).mean()

    return cost


def triplet_jax(jax: Any, optax: Any) -> Formula:
    jnp = jax.numpy

    def distance(a: Any, b: Any) -> Any:
        return jnp.sqrt(jnp.square(a - b).sum(1))

    return lambda anchors, positives, negatives: jax.nn.relu(
        distance(anchors, positives) - distance(anchors, negatives) + 1
    ).mean()


def squared_distances(x: Any) -> Any:
    """By one matrix product, for tensors of either framework."""
    norms = (x * x).sum(1)
    return norms[:, None] + norms[None, :] - 2 * (x @ x.T)


def relations(eye: Any, labels: Any) -> tuple[Any, Any]:
    """Which pairs are positive, which negative."""
    same = labels[:, None] == labels[None, :]
    return same & ~eye, ~same


def contrastive_all_torch(torch: Any) -> Formula:
    def cost(embeddings: Any, labels: Any) -> Any:
        n = len(labels)
        squared = squared_distances(embeddings)
        positive, negative = relations(torch.eye(n, dtype=torch.bool), labels)
        apart = torch.relu(1 - torch.where(negative, squared, 1.0).sqrt()).square()
        return 0.5 * torch.where(positive, squared, torch.where(negative, apart, 0.0)).sum() / (n * (n - 1))

    return cost


def contrastive_all_jax(jax: Any, optax: Any) -> Formula:
    jnp = jax.numpy

    def cost(embeddings: Any, labels: Any) -> Any:
        n = len(labels)
        squared = squared_distances(embeddings)
        positive, negative = relations(jnp.eye(n, dtype=bool), labels)
        apart = jnp.square(jax.nn.relu(1 - jnp.sqrt(jnp.where(negative, squared, 1.0))))
        return 0.5 * jnp.where(positive, squared, jnp.where(negative, apart, 0.0)).sum() / (n * (n - 1))

    return cost


def triplet_hard_torch(torch: Any) -> Formula:
    def cost(embeddings: Any, labels: Any) -> Any:
        squared = squared_distances(embeddings)
        positive, negative = relations(torch.eye(len(labels), dtype=torch.bool), labels)
        # The extremes are found before the root, so that the root and its slope cost n and not n².
        farthest = torch.where(positive, squared, -torch.inf).amax(1).sqrt()
        nearest = torch.where(negative, squared, torch.inf).amin(1).sqrt()
        return torch.relu(farthest - nearest + 1).mean()

    return cost


def triplet_hard_jax(jax: Any, optax: Any) -> Formula:
    jnp = jax.numpy

    def cost(embeddings: Any, labels: Any) -> Any:
        squared = squared_distances(embeddings)
        positive, negative = relations(jnp.eye(len(labels), dtype=bool), labels)
        farthest = jnp.sqrt(jnp.where(positive, squared, -jnp.inf).max(1))
        nearest = jnp.sqrt(jnp.where(negative, squared, jnp.inf).min(1))
        return jax.nn.relu(farthest - nearest + 1).mean()

    return cost


def triplet_hard_metric_learning(torch: Any) -> Formula:
    from pytorch_metric_learning import distances, losses, miners, reducers

    distance = distances.LpDistance(normalize_embeddings=False)
    miner = miners.BatchHardMiner(distance=distance)
    loss = losses.TripletMarginLoss(margin=1.0, distance=distance, reducer=reducers.MeanReducer())
    return lambda embeddings, labels: loss(embeddings, labels, miner(embeddings, labels))


def triplet_semi_hard_torch(torch: Any) -> Formula:
    def cost(embeddings: Any, labels: Any) -> Any:
        positive, negative = relations(torch.eye(len(labels), dtype=torch.bool), labels)
        d = torch.where(positive | negative, squared_distances(embeddings), 1.0).sqrt()
        # Negatives in order: the first beyond each positive, or else the last.
        ranked, order = torch.where(negative, d.detach(), torch.inf).sort(1)
        beyond = torch.searchsorted(ranked, d.detach(), right=True)
        chosen = order.gather(1, beyond.minimum(negative.sum(1, keepdim=True) - 1))
        terms = torch.relu(d - d.gather(1, chosen) + 1)
        return torch.where(positive, terms, 0.0).sum() / positive.sum()

    return cost


def triplet_semi_hard_jax(jax: Any, optax: Any) -> Formula:
    jnp = jax.numpy

    def cost(embeddings: Any, labels: Any) -> Any:
        positive, negative = relations(jnp.eye(len(labels), dtype=bool), labels)
        d = jnp.sqrt(jnp.where(positive | negative, squared_distances(embeddings), 1.0))
        masked = jax.lax.stop_gradient(jnp.where(negative, d, jnp.inf))
        order = jnp.argsort(masked, axis=1)
        ranked = jnp.take_along_axis(masked, order, axis=1)
        beyond = jax.vmap(lambda row, values: jnp.searchsorted(row, values, side="right"))(ranked, d)
        last = negative.sum(1, keepdims=True) - 1
        chosen = jnp.take_along_axis(order, jnp.minimum(beyond, last), axis=1)
        terms = jax.nn.relu(d - jnp.take_along_axis(d, chosen, axis=1) + 1)
        return jnp.where(positive, terms, 0.0).sum() / positive.sum()

    return cost


def triplet_all_torch(torch: Any) -> Formula:
    def cost(embeddings: Any, labels: Any) -> Any:
        positive, negative = relations(torch.eye(len(labels), dtype=torch.bool), labels)
        d = torch.where(positive | negative, squared_distances(embeddings), 1.0).sqrt()
        valid = positive[:, :, None] & negative[:, None, :]
        terms = torch.where(valid, torch.relu(d[:, :, None] - d[:, None, :] + 1), 0.0)
        return terms.sum() / (positive.sum(1) * negative.sum(1)).sum()

    return cost


def triplet_all_jax(jax: Any, optax: Any) -> Formula:
    jnp = jax.numpy

    def cost(embeddings: Any, labels: Any) -> Any:
        positive, negative = relations(jnp.eye(len(labels), dtype=bool), labels)
        d = jnp.sqrt(jnp.where(positive | negative, squared_distances(embeddings), 1.0))
        valid = positive[:, :, None] & negative[:, None, :]
        terms = jnp.where(valid, jax.nn.relu(d[:, :, None] - d[:, None, :] + 1), 0.0)
        return terms.sum() / (positive.sum(1) * negative.sum(1)).sum()

    return cost


TEMPERATURE = 0.1


def unit_torch(torch: Any, x: Any) -> Any:
    return torch.nn.functional.normalize(x, dim=1)


def unit_jax(jax: Any, x: Any) -> Any:
    return x / jax.numpy.linalg.norm(x, axis=1, keepdims=True)


def info_nce_torch(torch: Any, symmetric: bool = False) -> Formula:
    F = torch.nn.functional

    def cost(queries: Any, keys: Any) -> Any:
        similarities = unit_torch(torch, queries) @ unit_torch(torch, keys).T / TEMPERATURE
        diagonal = torch.arange(len(queries))
        rows = F.cross_entropy(similarities, diagonal)
        return (rows + F.cross_entropy(similarities.T, diagonal)) / 2 if symmetric else rows

    return cost


def info_nce_jax(jax: Any, optax: Any, symmetric: bool = False) -> Formula:
    jnp, logsumexp = jax.numpy, jax.nn.logsumexp

    def cost(queries: Any, keys: Any) -> Any:
        similarities = unit_jax(jax, queries) @ unit_jax(jax, keys).T / TEMPERATURE
        rows = logsumexp(similarities, axis=1)
        normalizers = (rows + logsumexp(similarities, axis=0)) / 2 if symmetric else rows
        return (normalizers - jnp.diagonal(similarities)).mean()

    return cost


SIGLIP = {"scale": 10.0, "bias": -10.0}


def siglip_torch(torch: Any) -> Formula:
    def cost(queries: Any, keys: Any) -> Any:
        logits = SIGLIP["scale"] * unit_torch(torch, queries) @ unit_torch(torch, keys).T + SIGLIP["bias"]
        signs = 2 * torch.eye(len(queries)) - 1
        return -torch.nn.functional.logsigmoid(signs * logits).sum() / len(queries)

    return cost


def siglip_jax(jax: Any, optax: Any) -> Formula:
    def cost(queries: Any, keys: Any) -> Any:
        logits = SIGLIP["scale"] * unit_jax(jax, queries) @ unit_jax(jax, keys).T + SIGLIP["bias"]
        signs = 2 * jax.numpy.eye(len(queries)) - 1
        return -jax.nn.log_sigmoid(signs * logits).sum() / len(queries)

    return cost


def supervised_contrastive_torch(torch: Any) -> Formula:
    def cost(embeddings: Any, labels: Any) -> Any:
        unit = unit_torch(torch, embeddings)
        similarities = unit @ unit.T / TEMPERATURE
        eye = torch.eye(len(labels), dtype=torch.bool)
        positive, _ = relations(eye, labels)
        normalizers = similarities.masked_fill(eye, -torch.inf).logsumexp(1)
        attraction = torch.where(positive, similarities, 0.0).sum(1) / positive.sum(1)
        return (normalizers - attraction).mean()

    return cost


def supervised_contrastive_jax(jax: Any, optax: Any) -> Formula:
    jnp = jax.numpy

    def cost(embeddings: Any, labels: Any) -> Any:
        unit = unit_jax(jax, embeddings)
        similarities = unit @ unit.T / TEMPERATURE
        eye = jnp.eye(len(labels), dtype=bool)
        positive, _ = relations(eye, labels)
        normalizers = jax.nn.logsumexp(jnp.where(eye, -jnp.inf, similarities), axis=1)
        attraction = jnp.where(positive, similarities, 0.0).sum(1) / positive.sum(1)
        return (normalizers - attraction).mean()

    return cost


def supervised_contrastive_metric_learning(torch: Any) -> Formula:
    from pytorch_metric_learning.losses import SupConLoss

    loss = SupConLoss(temperature=TEMPERATURE)
    return lambda embeddings, labels: loss(embeddings, labels)


MULTI_SIMILARITY = {"alpha": 2.0, "beta": 50.0, "base": 0.5}


def multi_similarity_torch(torch: Any) -> Formula:
    alpha, beta, base = MULTI_SIMILARITY.values()

    def cost(embeddings: Any, labels: Any) -> Any:
        unit = unit_torch(torch, embeddings)
        margins = unit @ unit.T - base
        positive, negative = relations(torch.eye(len(labels), dtype=torch.bool), labels)
        near = (-alpha * margins).masked_fill(~positive, -torch.inf).logsumexp(1)
        far = (beta * margins).masked_fill(~negative, -torch.inf).logsumexp(1)
        softplus = torch.nn.functional.softplus
        return (softplus(near) / alpha + softplus(far) / beta).mean()

    return cost


def multi_similarity_jax(jax: Any, optax: Any) -> Formula:
    jnp = jax.numpy
    alpha, beta, base = MULTI_SIMILARITY.values()

    def cost(embeddings: Any, labels: Any) -> Any:
        unit = unit_jax(jax, embeddings)
        margins = unit @ unit.T - base
        positive, negative = relations(jnp.eye(len(labels), dtype=bool), labels)
        near = jax.nn.logsumexp(jnp.where(positive, -alpha * margins, -jnp.inf), axis=1)
        far = jax.nn.logsumexp(jnp.where(negative, beta * margins, -jnp.inf), axis=1)
        return (jax.nn.softplus(near) / alpha + jax.nn.softplus(far) / beta).mean()

    return cost


def multi_similarity_metric_learning(torch: Any) -> Formula:
    from pytorch_metric_learning.losses import MultiSimilarityLoss

    loss = MultiSimilarityLoss(**MULTI_SIMILARITY)
    return lambda embeddings, labels: loss(embeddings, labels)


def anchor_inputs(random: Random, size: Dimensions) -> Inputs:
    return {role: embeddings(random, size["rows"], size["columns"]) for role in ("anchors", "positives")}


def n_pairs_torch(torch: Any) -> Formula:
    return lambda anchors, positives: torch.nn.functional.cross_entropy(
        anchors @ positives.T, torch.arange(len(anchors))
    )


def n_pairs_jax(jax: Any, optax: Any) -> Formula:
    def cost(anchors: Any, positives: Any) -> Any:
        similarities = anchors @ positives.T
        return (jax.nn.logsumexp(similarities, axis=1) - jax.numpy.diagonal(similarities)).mean()

    return cost


def centre_inputs(random: Random, size: Dimensions) -> Inputs:
    return {
        "embeddings": normal(random, size["rows"], size["columns"]),
        "class-centers": normal(random, size["classes"], size["columns"]),
        "labels": labels(random, size["rows"], size["classes"]),
    }


ARC_FACE = {"margin": 0.5, "scale": 16.0}
COS_FACE = {"margin": 0.35, "scale": 16.0}


def arc_margin(cosines: Any, sines: Any) -> Any:
    """cos(θ + margin)."""
    return math.cos(ARC_FACE["margin"]) * cosines - math.sin(ARC_FACE["margin"]) * sines


def centres_torch(torch: Any, margin: Callable[[Any], Any], scale: float) -> Formula:
    def cost(embeddings: Any, class_centers: Any, labels: Any) -> Any:
        cosines = unit_torch(torch, embeddings) @ unit_torch(torch, class_centers).T
        own = cosines.gather(1, labels[:, None])
        return torch.nn.functional.cross_entropy(scale * cosines.scatter(1, labels[:, None], margin(own)), labels)

    return cost


def centres_jax(jax: Any, margin: Callable[[Any], Any], scale: float) -> Formula:
    jnp = jax.numpy

    def cost(embeddings: Any, class_centers: Any, labels: Any) -> Any:
        cosines = unit_jax(jax, embeddings) @ unit_jax(jax, class_centers).T
        rows = jnp.arange(len(labels))
        own = margin(cosines[rows, labels])
        logits = scale * cosines.at[rows, labels].set(own)
        return (jax.nn.logsumexp(logits, axis=1) - scale * own).mean()

    return cost


def cosine_embedding_torch(torch: Any) -> Formula:
    return lambda first, second, same: torch.nn.functional.cosine_embedding_loss(first, second, 2 * same - 1)


def cosine_embedding_jax(jax: Any, optax: Any) -> Formula:
    jnp = jax.numpy

    def cost(first: Any, second: Any, same: Any) -> Any:
        cosines = optax.cosine_similarity(first, second)
        return jnp.where(same == 1, 1 - cosines, jax.nn.relu(cosines)).mean()

    return cost


METRIC_LEARNING = "pytorch-metric-learning"
SMALL_BATCH = {"rows": 48, "columns": 16}


def labelled(loss: str, rows: int, classes: int, **entry: Any) -> Workload:
    return Workload(
        loss=loss,
        dimensions={"rows": rows, "columns": 128, "classes": classes},
        smoke=SMALL_BATCH | {"classes": 4},
        make=labelled_inputs,
        differentiable=("embeddings",),
        **entry,
    )


def matched(loss: str, rows: int, columns: int, **entry: Any) -> Workload:
    return Workload(
        loss=loss,
        dimensions={"rows": rows, "columns": columns},
        smoke=SMALL_BATCH,
        make=matched_inputs,
        differentiable=("queries", "keys"),
        peer_bytes=lambda size: 16 * size["rows"] ** 2,
        **entry,
    )


def centres(loss: str, **entry: Any) -> Workload:
    return Workload(
        loss=loss,
        dimensions={"rows": 1024, "columns": 512, "classes": 10000},
        smoke=SMALL_BATCH | {"classes": 40},
        make=centre_inputs,
        differentiable=("embeddings", "class-centers"),
        **entry,
    )


def triplet_all(rows: int, classes: int) -> Workload:
    return labelled(
        "triplet-all",
        rows,
        classes,
        options={"margin": 1.0, "mining": "batch-all"},
        torch=triplet_all_torch,
        jax=triplet_all_jax,
        peer_bytes=lambda size: 16 * size["rows"] ** 3,
    )


def info_nce(rows: int, columns: int) -> Workload:
    return matched(
        "info-nce", rows, columns, options={"temperature": TEMPERATURE}, torch=info_nce_torch, jax=info_nce_jax
    )


EMBEDDINGS = [
    Workload(
        loss="pairwise-distance",
        dimensions={"rows": 4096, "columns": 128},
        smoke=SMALL_BATCH,
        make=distances_inputs,
        differentiable=(),
        torch=lambda torch: lambda embeddings: torch.cdist(embeddings, embeddings),
        jax=distances_jax,
        extra={"faiss": distances_faiss, "scikit-learn": distances_scikit_learn},
        # Where a peer lets ‖x‖² + ‖x‖² − 2·x·x cancel, it finds the root of a rounding error between identical rows.
        gradient_tolerance=1e-3,
    ),
    Workload(
        loss="contrastive-pairs",
        dimensions={"rows": 65536, "columns": 128},
        smoke=SMALL_BATCH,
        make=pair_inputs,
        differentiable=("first", "second"),
        options={"margin": 1.0},
        torch=contrastive_pairs_torch,
        jax=contrastive_pairs_jax,
    ),
    Workload(
        loss="triplet",
        dimensions={"rows": 65536, "columns": 128},
        smoke=SMALL_BATCH,
        make=triplet_inputs,
        differentiable=("anchors", "positives", "negatives"),
        options={"margin": 1.0, "mining": "given"},
        torch=lambda torch: (
            lambda anchors, positives, negatives: torch.nn.functional.triplet_margin_loss(
                anchors, positives, negatives, eps=0.0
            )
        ),
        jax=triplet_jax,
    ),
    labelled(
        "contrastive-all",
        4096,
        64,
        options={"margin": 1.0},
        torch=contrastive_all_torch,
        jax=contrastive_all_jax,
    ),
    labelled(
        "triplet-hard",
        4096,
        64,
        options={"margin": 1.0, "mining": "batch-hard"},
        torch=triplet_hard_torch,
        jax=triplet_hard_jax,
        extra={METRIC_LEARNING: triplet_hard_metric_learning},
        gradient_measure="norm",
    ),
    labelled(
        "triplet-semi-hard",
        4096,
        64,
        options={"margin": 1.0, "mining": "batch-semi-hard"},
        torch=triplet_semi_hard_torch,
        jax=triplet_semi_hard_jax,
        gradient_measure="most rows",
    ),
    triplet_all(512, 16),
    triplet_all(8192, 64),
    matched(
        "clip",
        4096,
        512,
        options={"temperature": TEMPERATURE},
        torch=lambda torch: info_nce_torch(torch, symmetric=True),
        jax=lambda jax, optax: info_nce_jax(jax, optax, symmetric=True),
    ),
    matched("siglip", 4096, 512, options=SIGLIP, torch=siglip_torch, jax=siglip_jax),
    labelled(
        "supervised-contrastive",
        4096,
        64,
        options={"temperature": TEMPERATURE},
        torch=supervised_contrastive_torch,
        jax=supervised_contrastive_jax,
        extra={METRIC_LEARNING: supervised_contrastive_metric_learning},
    ),
    info_nce(4096, 128),
    info_nce(65536, 128),
    Workload(
        loss="n-pairs",
        dimensions={"rows": 4096, "columns": 128},
        smoke=SMALL_BATCH,
        make=anchor_inputs,
        differentiable=("anchors", "positives"),
        torch=n_pairs_torch,
        jax=n_pairs_jax,
    ),
    labelled(
        "multi-similarity",
        4096,
        64,
        options=MULTI_SIMILARITY,
        torch=multi_similarity_torch,
        jax=multi_similarity_jax,
        extra={METRIC_LEARNING: multi_similarity_metric_learning},
    ),
    centres(
        "arc-face",
        options=ARC_FACE,
        torch=lambda torch: centres_torch(
            torch, lambda own: arc_margin(own, (1 - own * own).sqrt()), ARC_FACE["scale"]
        ),
        jax=lambda jax, optax: centres_jax(
            jax, lambda own: arc_margin(own, jax.numpy.sqrt(1 - own * own)), ARC_FACE["scale"]
        ),
    ),
    centres(
        "cos-face",
        options=COS_FACE,
        torch=lambda torch: centres_torch(torch, lambda own: own - COS_FACE["margin"], COS_FACE["scale"]),
        jax=lambda jax, optax: centres_jax(jax, lambda own: own - COS_FACE["margin"], COS_FACE["scale"]),
    ),
    Workload(
        loss="cosine-embedding",
        dimensions={"rows": 65536, "columns": 128},
        smoke=SMALL_BATCH,
        make=pair_inputs,
        differentiable=("first", "second"),
        torch=cosine_embedding_torch,
        jax=cosine_embedding_jax,
    ),
]


# MARK: - CTC


def ctc_inputs(random: Random, size: Dimensions) -> Inputs:
    time, batch, classes = size["time"], size["batch"], size["classes"]
    return {
        "logits": normal(random, batch, time, classes),
        "targets": random.integers(1, classes, (batch, size["labels"])),
    }


def ctc_torch(torch: Any) -> Formula:
    F = torch.nn.functional

    def cost(logits: Any, targets: Any) -> Any:
        batch, time, _ = logits.shape
        log_p = F.log_softmax(logits, 2).transpose(0, 1)
        return F.ctc_loss(log_p, targets, (time,) * batch, (targets.shape[1],) * batch)

    return cost


def ctc_jax(jax: Any, optax: Any) -> Formula:
    jnp = jax.numpy

    def cost(logits: Any, targets: Any) -> Any:
        losses = optax.ctc_loss(logits, jnp.zeros(logits.shape[:2]), targets, jnp.zeros(targets.shape))
        return (losses / targets.shape[1]).mean()

    return cost


def ctc(time: int, batch: int, classes: int, labels: int) -> Workload:
    return Workload(
        loss="ctc",
        dimensions={"time": time, "batch": batch, "classes": classes, "labels": labels},
        smoke={"time": 20, "batch": 3, "classes": 7, "labels": 5},
        make=ctc_inputs,
        differentiable=("logits",),
        options={"blank": 0},
        torch=ctc_torch,
        jax=ctc_jax,
        # The peers' recursions in log space lose digits of the gradient in float32.
        gradient_tolerance=0.05,
    )


SEQUENCES = [ctc(500, 64, 32, 100), ctc(1000, 16, 1000, 80), ctc(150, 128, 5000, 20), ctc(50, 1024, 32, 10)]


# MARK: - The table


def by_name(*groups: list[Workload]) -> dict[str, Workload]:
    return {workload.name: workload for group in groups for workload in group}


WORKLOADS = by_name(ELEMENT_WISE, ROW_WISE, EMBEDDINGS, SEQUENCES)


def arguments(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {role.replace("-", "_"): value for role, value in inputs.items()}
