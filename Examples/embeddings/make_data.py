"""Makes the inputs in this folder and expected.json: handwritten digits as embeddings, judged by PyTorch in float64.

pip install -r requirements.txt && python make_data.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_metric_learning
import sklearn
import torch
import torch.nn.functional as F
from pytorch_metric_learning import distances, losses, miners, reducers
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

HERE = Path(__file__).parent
DIMENSIONS = 16
PAIRS = 256
SHOWN = 200
"""Of every so many rows of a gradient one is kept, and norm and largest element of all."""
Tensor = torch.Tensor
Formula = Callable[..., Tensor]


# MARK: - Inputs


def inputs() -> dict[str, np.ndarray]:
    """By role."""
    digits = load_digits()
    labels = digits.target.astype(np.uint8)
    components = PCA(DIMENSIONS, random_state=0).fit(digits.data / 16)

    def reduced(images: np.ndarray) -> np.ndarray:
        return components.transform(images.reshape(len(images), -1) / 16).astype(np.float32)

    embeddings = reduced(digits.images)
    random = np.random.default_rng(4)

    def others(rows: np.ndarray, same: np.ndarray) -> np.ndarray:
        """For each row another one, of the same class or not."""
        chosen = []
        for row, alike in zip(rows, same, strict=True):
            fits = (labels == labels[row]) == alike
            fits[row] = False
            chosen.append(random.choice(np.flatnonzero(fits)))
        return np.array(chosen)

    rows = random.permutation(len(labels))[:PAIRS]
    same = (np.arange(PAIRS) % 2).astype(np.uint8)
    everyone, nobody = np.ones(PAIRS, bool), np.zeros(PAIRS, bool)
    images = digits.images[rows]
    return {
        "embeddings": embeddings,
        "labels": labels,
        "class-centers": np.stack([embeddings[labels == digit].mean(0) for digit in range(10)]),
        "first": embeddings[rows],
        "second": embeddings[others(rows, same == 1)],
        "same": same,
        "anchors": embeddings[rows],
        "positives": embeddings[others(rows, everyone)],
        "negatives": embeddings[others(rows, nobody)],
        # Two views of one image: moved by a pixel upwards and downwards.
        "queries": reduced(np.roll(images, -1, axis=1)),
        "keys": reduced(np.roll(images, 1, axis=1)),
    }


# MARK: - Losses as PyTorch has them


def distance(x: Tensor, y: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x - y, dim=1)


def relations(labels: Tensor) -> tuple[Tensor, Tensor]:
    same = labels[:, None] == labels
    return same & ~torch.eye(len(labels), dtype=torch.bool), ~same


def between(x: Tensor, pairs: Tensor) -> Tensor:
    """Distances of the pairs that are wanted; the root of 0 on the diagonal has no slope."""
    squared = (x[:, None] - x).square().sum(2)
    return torch.where(pairs, squared, 1.0).sqrt()


def contrastive(first: Tensor, second: Tensor, same: Tensor) -> Tensor:
    d = distance(first, second)
    return torch.where(same == 1, d.square() / 2, torch.relu(1 - d).square() / 2).mean()


def contrastive_batch(embeddings: Tensor, labels: Tensor) -> Tensor:
    positive, negative = relations(labels)
    d = between(embeddings, positive | negative)
    terms = torch.where(positive, d.square(), torch.where(negative, torch.relu(1 - d).square(), 0.0)) / 2
    return terms.sum() / (positive | negative).sum()


def triplet(squared: bool) -> Formula:
    def cost(anchors: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        rows = F.triplet_margin_with_distance_loss(
            anchors, positives, negatives, distance_function=distance, swap=not squared, reduction="none"
        )
        return (rows.square() if squared else rows).mean()

    return cost


def triplet_hard(embeddings: Tensor, labels: Tensor) -> Tensor:
    lp = distances.LpDistance(normalize_embeddings=False)
    loss = losses.TripletMarginLoss(margin=1.0, distance=lp, reducer=reducers.MeanReducer())
    return loss(embeddings, labels, miners.BatchHardMiner(distance=lp)(embeddings, labels))


def triplet_semi_hard(embeddings: Tensor, labels: Tensor) -> Tensor:
    positive, negative = relations(labels)
    d = between(embeddings, positive | negative)
    ranked, order = torch.where(negative, d.detach(), torch.inf).sort(1)
    beyond = torch.searchsorted(ranked, d.detach(), right=True)
    chosen = order.gather(1, beyond.minimum(negative.sum(1, keepdim=True) - 1))
    terms = torch.relu(d - d.gather(1, chosen) + 1)
    return torch.where(positive, terms, 0.0).sum() / positive.sum()


def triplet_all(embeddings: Tensor, labels: Tensor) -> Tensor:
    positive, negative = relations(labels)
    total, count = torch.tensor(0.0), 0
    for row in range(len(labels)):
        d = distance(embeddings[row], torch.cat([embeddings[positive[row]], embeddings[negative[row]]]))
        near, far = d[: int(positive[row].sum())], d[int(positive[row].sum()) :]
        total = total + torch.relu(near[:, None] - far + 1).sum()
        count += len(near) * len(far)
    return total / count


def cosine_distance() -> Any:
    return distances.CosineSimilarity()


def supervised_contrastive(embeddings: Tensor, labels: Tensor) -> Tensor:
    return losses.SupConLoss(temperature=0.1, distance=cosine_distance())(embeddings, labels)


def nt_xent(embeddings: Tensor, labels: Tensor) -> Tensor:
    """As pytorch-metric-learning has it, which would need a matrix of all positive by all negative pairs: 869 GiB."""
    positive, negative = relations(labels)
    logits = similarities(embeddings, embeddings) / 0.1
    others = logits.masked_fill(negative.logical_not(), -torch.inf).logsumexp(1, keepdim=True)
    return F.softplus(others - logits)[positive].mean()


def multi_similarity(embeddings: Tensor, labels: Tensor) -> Tensor:
    loss = losses.MultiSimilarityLoss(
        alpha=2, beta=50, base=0.5, distance=cosine_distance(), reducer=reducers.MeanReducer()
    )
    return loss(embeddings, labels)


def similarities(queries: Tensor, keys: Tensor) -> Tensor:
    return F.normalize(queries) @ F.normalize(keys).T


def own(x: Tensor) -> Tensor:
    return torch.arange(len(x))


def info_nce(queries: Tensor, keys: Tensor, temperature: Tensor) -> Tensor:
    return F.cross_entropy(similarities(queries, keys) / temperature, own(queries))


def info_nce_products(queries: Tensor, keys: Tensor) -> Tensor:
    return F.cross_entropy(queries @ keys.T, own(queries))


def clip(queries: Tensor, keys: Tensor, temperature: Tensor) -> Tensor:
    logits = similarities(queries, keys) / temperature
    return (F.cross_entropy(logits, own(queries)) + F.cross_entropy(logits.T, own(queries))) / 2


def siglip(queries: Tensor, keys: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    logits = scale * similarities(queries, keys) + bias
    return -F.logsigmoid((2 * torch.eye(len(logits)) - 1) * logits).sum() / len(logits)


def n_pairs(anchors: Tensor, positives: Tensor) -> Tensor:
    return F.cross_entropy(anchors @ positives.T, own(anchors))


def margin_softmax(angular: bool) -> Formula:
    def cost(embeddings: Tensor, class_centers: Tensor, labels: Tensor) -> Tensor:
        cosines = similarities(embeddings, class_centers)
        changed = torch.cos(torch.acos(cosines) + 0.5) if angular else cosines - 0.35
        return F.cross_entropy(16 * torch.where(F.one_hot(labels.long()).bool(), changed, cosines), labels.long())

    return cost


def cosine_embedding(first: Tensor, second: Tensor, same: Tensor) -> Tensor:
    return F.cosine_embedding_loss(first, second, 2 * same.double() - 1, margin=0.25)


# MARK: - Cases

PAIR, BATCH, TRIPLETS, MATCHED = (
    ("first", "second", "same"),
    ("embeddings", "labels"),
    ("anchors", "positives", "negatives"),
    ("queries", "keys"),
)
CASES: list[tuple[str, dict[str, Any], tuple[str, ...], Formula]] = [
    ("contrastive", {"margin": 1.0}, PAIR, contrastive),
    ("contrastive", {"margin": 1.0}, BATCH, contrastive_batch),
    ("triplet", {"margin": 1.0, "swap": True}, TRIPLETS, triplet(squared=False)),
    ("triplet", {"margin": 1.0, "squared": True}, TRIPLETS, triplet(squared=True)),
    ("triplet", {"margin": 1.0, "mining": "batch-hard"}, BATCH, triplet_hard),
    ("triplet", {"margin": 1.0, "mining": "batch-semi-hard"}, BATCH, triplet_semi_hard),
    ("triplet", {"margin": 1.0, "mining": "batch-all"}, BATCH, triplet_all),
    ("info-nce", {"temperature": 0.1}, MATCHED, info_nce),
    ("info-nce", {"temperature": 1.0, "normalization": False}, MATCHED, info_nce_products),
    ("info-nce", {"temperature": 0.1}, BATCH, nt_xent),
    ("supervised-contrastive", {"temperature": 0.1}, BATCH, supervised_contrastive),
    ("clip", {"temperature": 0.1}, MATCHED, clip),
    ("siglip", {"scale": 10.0, "bias": -10.0}, MATCHED, siglip),
    ("n-pairs", {}, ("anchors", "positives"), n_pairs),
    ("multi-similarity", {"alpha": 2.0, "beta": 50.0, "base": 0.5}, BATCH, multi_similarity),
    ("arc-face", {"margin": 0.5, "scale": 16.0}, ("embeddings", "class-centers", "labels"), margin_softmax(True)),
    ("cos-face", {"margin": 0.35, "scale": 16.0}, ("embeddings", "class-centers", "labels"), margin_softmax(False)),
    ("cosine-embedding", {"margin": 0.25}, PAIR, cosine_embedding),
]
PARAMETERS = {info_nce: ["temperature"], clip: ["temperature"], siglip: ["scale", "bias"]}
CHOOSES = {"batch-hard", "batch-semi-hard"}
"""Where two candidates all but tie, float32 may choose the other one: the gradient jumps, the cost does not."""


def evaluate(
    loss: str, options: dict[str, Any], roles: tuple[str, ...], formula: Formula, data: dict[str, np.ndarray]
) -> dict[str, Any]:
    tensors = {role: torch.from_numpy(data[role]) for role in roles}
    leaves = {r: x.double().requires_grad_() for r, x in tensors.items() if x.is_floating_point()}
    parameters = {
        name: torch.tensor(options[name], requires_grad=True) for name in PARAMETERS.get(formula, [])
    }
    arguments = {role.replace("-", "_"): leaves.get(role, x) for role, x in tensors.items()}
    cost = formula(**arguments, **parameters)
    cost.backward()
    return {
        "loss": loss,
        "options": options,
        "inputs": list(roles),
        "cost": cost.item(),
        "chooses": options.get("mining") in CHOOSES,
        "parameters": {f"{name}Gradient": x.grad.item() for name, x in parameters.items()},
        "gradients": {
            role: {
                "norm": torch.linalg.vector_norm(x.grad).item(),
                "largest": x.grad.abs().max().item(),
                "rows": {str(row): x.grad[row].tolist() for row in range(0, len(x), SHOWN)},
            }
            for role, x in leaves.items()
        },
    }


def main() -> None:
    torch.set_default_dtype(torch.float64)
    data = inputs()
    for role, values in data.items():
        np.save(HERE / f"{role}.npy", values)
    cases = [evaluate(*case, data) for case in CASES]
    modules = (np, sklearn, torch, pytorch_metric_learning)
    nearest = np.linalg.norm(data["embeddings"][:, None].astype(float) - data["class-centers"], axis=2).argmin(1)
    expected = {
        "source": "PyTorch and pytorch-metric-learning in float64 on the files in this folder",
        "versions": {module.__name__: module.__version__ for module in modules},
        "nearestCenterAccuracy": float((nearest == data["labels"]).mean()),
        "cases": cases,
    }
    lines = [json.dumps(case, separators=(",", ":")) for case in expected.pop("cases")]
    head = json.dumps(expected)[:-1] + ', "cases": [\n'
    (HERE / "expected.json").write_text(head + ",\n".join(lines) + "\n]}\n")
    for case in cases:
        print(case["loss"], case["options"], case["cost"])


if __name__ == "__main__":
    main()
