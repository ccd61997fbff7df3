"""The protocol of a peer: one JSON request per line on standard input, one JSON answer per line on standard output.

{"op": "load", "workload", "variant", "inputs": {role: npy file}, "options", "workers"} -> {"ok": true}
{"op": "run"} -> {"ms", "cost"}: one value with gradients, timed here
{"op": "gradient", "path"} -> {"gradients": {role: npy file}} of the last run
{"op": "info"} -> {"versions", ...}
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from workloads import WORKLOADS, Workload


class Peer(Protocol):
    def load(self, workload: Workload, variant: str, inputs: dict[str, np.ndarray], workers: int) -> None: ...

    def run(self) -> tuple[float, float]:
        """Milliseconds and cost."""
        ...

    def gradients(self) -> dict[str, np.ndarray]: ...

    def versions(self) -> dict[str, str]: ...


def answer(peer: Peer, request: dict[str, Any]) -> dict[str, Any]:
    match request["op"]:
        case "load":
            inputs = {role: np.load(path) for role, path in request["inputs"].items()}
            peer.load(WORKLOADS[request["workload"]], request["variant"], inputs, request["workers"])
            return {"ok": True}
        case "run":
            milliseconds, cost = peer.run()
            return {"ms": milliseconds, "cost": cost}
        case "gradient":
            return {"gradients": save(peer.gradients(), Path(request["path"]))}
        case "info":
            return {"versions": peer.versions()}
        case other:
            return {"error": f"unknown op {other}"}


def save(gradients: dict[str, np.ndarray], path: Path) -> dict[str, str]:
    files = {role: str(path.with_name(f"{path.stem}-{role}.npy")) for role in gradients}
    for role, file in files.items():
        np.save(file, gradients[role])
    return files


def serve(peer: Peer) -> None:
    # Frameworks write notes to standard output; only answers may go there.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            result = answer(peer, json.loads(line))
        except Exception as error:
            traceback.print_exc()
            result = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
        print(json.dumps(result), file=answers, flush=True)
