"""JAX as a peer, on the CPU: `jit` over `value_and_grad`. Its threads are as many as the CPUs it may run on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from peers.worker import serve
from workloads import DISTANCES, Workload, arguments


class JaxPeer:
    def __init__(self) -> None:
        self.evaluate: Callable[[], Any]
        self.latest: dict[str, Any] = {}
        """Gradients by argument, or a matrix of distances."""
        self.roles: dict[str, str] = {}

    def load(self, workload: Workload, variant: str, inputs: dict[str, np.ndarray], workers: int) -> None:
        formula = workload.jax(jax, optax)
        named = {key: jax.device_put(value) for key, value in arguments(inputs).items()}
        self.roles = arguments(dict(zip(workload.differentiable, workload.differentiable, strict=True)))
        leaves = {key: named[key] for key in self.roles}
        fixed = {key: value for key, value in named.items() if key not in leaves}

        def cost(leaves: dict[str, Any], fixed: dict[str, Any]) -> Any:
            return formula(**leaves, **fixed)

        def distances(leaves: dict[str, Any], fixed: dict[str, Any]) -> Any:
            matrix = formula(**fixed)
            return matrix[0, -1], {DISTANCES: matrix}

        if not self.roles:
            self.roles = {DISTANCES: DISTANCES}
        compiled = jax.jit(jax.value_and_grad(cost) if leaves else distances)
        jax.block_until_ready((leaves, fixed))
        self.evaluate = lambda: jax.block_until_ready(compiled(leaves, fixed))

    def run(self) -> tuple[float, float]:
        # The gradient of the last run is released first, so that its memory can be used again, as in a training step.
        self.latest = {}
        start = time.perf_counter()
        cost, gradients = self.evaluate()
        elapsed = (time.perf_counter() - start) * 1e3
        self.latest = gradients
        return elapsed, float(cost)

    def gradients(self) -> dict[str, np.ndarray]:
        return {self.roles[key]: np.asarray(value) for key, value in self.latest.items()}

    def versions(self) -> dict[str, str]:
        return {"jax": jax.__version__, "optax": optax.__version__}


if __name__ == "__main__":
    serve(JaxPeer())
