"""Writes embedding.json beside this file: losses on embeddings from PyTorch and pytorch-metric-learning in float64.

    pip install torch pytorch-metric-learning scikit-learn && python generate_embedding.py

A case holds the name of its loss, its options, inputs by role (row-major, with their number of columns), labels,
and what an evaluation must yield: cost and gradients by role. Every input is exact in float32, so that one fixture
serves both precisions.

Where peers differ from this project the difference is undone here, in one place each: pytorch-metric-learning
averages losses greater than 0 (its reducer is replaced by the mean over what has a loss here), and adds eps to
distances (PyTorch's triplet loss gets a distance without).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_metric_learning import distances, losses, miners, reducers
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

torch.set_default_dtype(torch.float64)
Tensor = torch.Tensor
HERE = Path(__file__).parent
generator = torch.Generator().manual_seed(20)


def numbers(rows: int, columns: int) -> Tensor:
    """Multiples of 1/512 in -1..1."""
    return torch.randint(-512, 513, (rows, columns), generator=generator).double() / 512


def case(loss: str, options: dict[str, Any], inputs: dict[str, Tensor], evaluate: Any, **more: Any) -> dict[str, Any]:
    """Evaluates and differentiates; `more` goes into the case as it is."""
    leaves = {role: x.clone().requires_grad_() for role, x in inputs.items()}
    parameters: dict[str, Tensor] = more.pop("parameters", {})
    cost = evaluate(**leaves)
    cost.backward()
    return {
        "loss": loss,
        "options": options,
        "inputs": {r: {"columns": x.shape[1], "data": x.flatten().tolist()} for r, x in inputs.items()},
        "cost": cost.item(),
        "gradients": {r: x.grad.flatten().tolist() for r, x in leaves.items()},
        "parameterGradients": {name: p.grad.item() for name, p in parameters.items()},
        **more,
    }


def euclidean(x: Tensor, y: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x - y, dim=1)


def clip(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    logits = scale * F.normalize(images) @ F.normalize(texts).T
    target = torch.arange(len(images))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def siglip(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    logits = scale * F.normalize(images) @ F.normalize(texts).T + bias
    signs = 2 * torch.eye(len(images)) - 1
    return -F.logsigmoid(signs * logits).sum() / len(images)


def arc_face(embeddings: Tensor, classCenters: Tensor, labels: Tensor, margin: float, scale: float) -> Tensor:  # noqa: N803
    cosines = F.normalize(embeddings) @ F.normalize(classCenters).T
    own = F.one_hot(labels, len(classCenters)).bool()
    return F.cross_entropy(scale * torch.where(own, torch.cos(torch.acos(cosines) + margin), cosines), labels)


def digits() -> tuple[Tensor, Tensor]:
    """40 handwritten digits in 16 principal components, to a multiple of 1/8."""
    data = load_digits()
    reduced = PCA(16, random_state=0).fit_transform(data.data)[:40]
    return (torch.tensor(reduced) * 8).round() / 8, torch.tensor(data.target[:40])


def cases() -> list[dict[str, Any]]:
    result = []
    lp = distances.LpDistance(normalize_embeddings=False, p=2, power=1)
    cosine = distances.CosineSimilarity()

    # Given triplets and pairs: PyTorch itself.
    a, p, n = numbers(11, 7), numbers(11, 7), numbers(11, 7)
    for swap in (False, True):
        result.append(
            case(
                "triplet", {"margin": 0.5, "swap": swap}, {"anchors": a, "positives": p, "negatives": n},
                lambda anchors, positives, negatives, swap=swap: F.triplet_margin_with_distance_loss(
                    anchors, positives, negatives, distance_function=euclidean, margin=0.5, swap=swap
                ),
            )
        )
    signs = torch.tensor([1.0 if i % 3 else -1.0 for i in range(11)])
    result.append(
        case(
            "cosine-embedding", {"margin": 0.25}, {"first": a, "second": p},
            lambda first, second: F.cosine_embedding_loss(first, second, signs, margin=0.25),
            similar=[bool(s > 0) for s in signs],
        )
    )

    # Labelled batches: pytorch-metric-learning, random ones and digits.
    random_labels = torch.randint(0, 4, (18,), generator=generator)
    for name, x, labels in [("random", numbers(18, 9), random_labels), ("digits", *digits())]:
        more = {"labels": labels.tolist(), "batch": name}
        everything = miners.TripletMarginMiner(margin=1e9, distance=lp)
        triplet = losses.TripletMarginLoss(margin=1.0, distance=lp, reducer=reducers.MeanReducer())
        result.append(
            case("triplet-all", {"margin": 1.0}, {"embeddings": x},
                 lambda embeddings: triplet(embeddings, labels, everything(embeddings, labels)), **more)
        )
        hardest = miners.BatchHardMiner(distance=lp)
        result.append(
            case("triplet-hard", {"margin": 1.0}, {"embeddings": x},
                 lambda embeddings: triplet(embeddings, labels, hardest(embeddings, labels)), **more)
        )

        def anchors_with_positive(labels: Tensor) -> int:
            same = labels[:, None] == labels[None, :]
            return int((same.sum(1) > 1).sum())

        sup_con = losses.SupConLoss(temperature=0.25, distance=cosine, reducer=reducers.SumReducer())
        result.append(
            case("sup-con", {"temperature": 0.25}, {"embeddings": x},
                 lambda embeddings: sup_con(embeddings, labels) / anchors_with_positive(labels), **more)
        )
        nt_xent = losses.NTXentLoss(temperature=0.25, distance=cosine, reducer=reducers.MeanReducer())
        result.append(
            case("nt-xent", {"temperature": 0.25}, {"embeddings": x},
                 lambda embeddings: nt_xent(embeddings, labels), **more)
        )
        multi = losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5, distance=cosine, reducer=reducers.MeanReducer())
        result.append(
            case("multi-similarity", {"alpha": 2.0, "beta": 50.0, "base": 0.5}, {"embeddings": x},
                 lambda embeddings: multi(embeddings, labels), **more)
        )

    # Two sets of rows.
    x, y = numbers(13, 9), numbers(13, 9)
    scale = torch.tensor(4.0, requires_grad=True)
    result.append(
        case("clip", {"temperature": 0.25}, {"images": x, "texts": y},
             lambda images, texts: clip(images, texts, scale), parameters={"scale": scale})
    )
    scale, bias = torch.tensor(10.0, requires_grad=True), torch.tensor(-10.0, requires_grad=True)
    result.append(
        case("siglip", {"scale": 10.0, "bias": -10.0}, {"images": x, "texts": y},
             lambda images, texts: siglip(images, texts, scale, bias), parameters={"scale": scale, "bias": bias})
    )
    result.append(
        case("info-nce", {"temperature": 0.25}, {"queries": x, "keys": y},
             lambda queries, keys: F.cross_entropy(4 * F.normalize(queries) @ F.normalize(keys).T, torch.arange(13)))
    )
    result.append(
        case("n-pairs", {}, {"anchors": x, "positives": y},
             lambda anchors, positives: F.cross_entropy(anchors @ positives.T, torch.arange(13)))
    )
    labels = torch.randint(0, 5, (13,), generator=generator)
    result.append(
        case("arc-face", {"margin": 0.5, "scale": 16.0}, {"embeddings": x, "classCenters": numbers(5, 9)},
             lambda embeddings, classCenters: arc_face(embeddings, classCenters, labels, 0.5, 16.0),  # noqa: N803
             labels=labels.tolist())
    )
    return result


if __name__ == "__main__":
    found = cases()
    source = f"torch {torch.__version__}, pytorch-metric-learning, in float64"
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in found)
    (HERE / "embedding.json").write_text('{"source":"' + source + '","cases":[\n' + lines + "\n]}\n")
    print(len(found), "cases")
