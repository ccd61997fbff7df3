"""PyTorch as a peer, on the CPU: eager, torch.compile, a formula of its own (variants), or float64 as the reference."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from peers.worker import serve
from workloads import DISTANCES, Workload, arguments


class TorchPeer:
    def __init__(self) -> None:
        self.leaves: dict[str, torch.Tensor] = {}
        self.formula: Callable[[], torch.Tensor]
        self.distances: torch.Tensor | None = None
        self.variant = ""

    def load(self, workload: Workload, variant: str, inputs: dict[str, np.ndarray], workers: int) -> None:
        torch.set_num_threads(workers)
        self.variant = variant
        tensors = {role: torch.from_numpy(values) for role, values in inputs.items()}
        if variant == "reference":
            tensors = {role: x.double() if x.is_floating_point() else x for role, x in tensors.items()}
        self.leaves = {role: tensors[role].requires_grad_() for role in workload.differentiable}
        formula: Any = workload.extra.get(variant, workload.torch)(torch)
        if variant == "compile":
            formula = torch.compile(formula, dynamic=False)
        named = arguments(tensors)
        self.formula = lambda: formula(**named)

    def run(self) -> tuple[float, float]:
        start = time.perf_counter()
        self.distances = None
        for leaf in self.leaves.values():
            leaf.grad = None
        result = self.formula()
        if self.leaves:
            result.backward()
        elapsed = (time.perf_counter() - start) * 1e3
        if self.leaves:
            return elapsed, result.item()
        self.distances = result
        return elapsed, result[0, -1].item()

    def gradients(self) -> dict[str, np.ndarray]:
        if self.distances is not None:
            return {DISTANCES: self.distances.numpy()}
        return {role: leaf.grad.numpy() for role, leaf in self.leaves.items() if leaf.grad is not None}

    def versions(self) -> dict[str, str]:
        beside = {"pytorch-metric-learning", "faiss-cpu", "scikit-learn"}
        used = {name for name in beside if self.variant and name.startswith(self.variant)}
        return {"torch": torch.__version__} | {name: version(name) for name in used}


if __name__ == "__main__":
    serve(TorchPeer())
