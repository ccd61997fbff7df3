"""What each workload is meant to reach. A goal reads what was measured and never decides what is timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import results
from results import Entry


class Goal(Protocol):
    @property
    def text(self) -> str: ...

    def reached(self, entry: Entry) -> float | None:
        """What was measured, where it was."""
        ...

    def is_met(self, reached: float) -> bool: ...

    def show(self, reached: float) -> str: ...


@dataclass(frozen=True)
class OfLimit:
    """At least a part of the limit."""

    least: float
    why: str = ""

    @property
    def text(self) -> str:
        return f"≥ {results.percent(self.least)} of the limit" + (f" ({self.why})" if self.why else "")

    def reached(self, entry: Entry) -> float | None:
        return results.fraction_of_limit(entry)

    def is_met(self, reached: float) -> bool:
        return reached >= self.least

    def show(self, reached: float) -> str:
        return results.percent(reached)


@dataclass(frozen=True)
class Faster:
    """Some times faster than a peer with its better allocator, or than the best of all."""

    least: float
    peer: str = ""

    @property
    def text(self) -> str:
        return f"≥ {self.least:g}× {self.peer or 'the best peer'}"

    def reached(self, entry: Entry) -> float | None:
        found = results.better_allocator(entry, self.peer) if self.peer else results.best_peer(entry)
        return found[1]["ratio"] if found else None

    def is_met(self, reached: float) -> bool:
        return reached >= self.least

    def show(self, reached: float) -> str:
        return results.times(reached)


@dataclass(frozen=True)
class Within:
    """At most some times as long as ours without the workload's options, in the same rounds."""

    most: float

    @property
    def text(self) -> str:
        return f"≤ {self.most:g}× the plain case"

    def reached(self, entry: Entry) -> float | None:
        return results.times_plain(entry)

    def is_met(self, reached: float) -> bool:
        return reached <= self.most

    def show(self, reached: float) -> str:
        return results.times(reached)


@dataclass(frozen=True)
class PeakMemory:
    """At most so many bytes in all."""

    most: int

    @property
    def text(self) -> str:
        return f"peak memory < {results.mebibytes(self.most)} MiB"

    def reached(self, entry: Entry) -> float | None:
        mine: dict[str, Any] = results.timed(entry).get(results.OURS, {})
        return mine.get("peak_rss_bytes")

    def is_met(self, reached: float) -> bool:
        return reached < self.most

    def show(self, reached: float) -> str:
        return f"{results.mebibytes(reached)} MiB"


GIBIBYTE = 1 << 30
GOALS: Mapping[str, list[Goal]] = {
    "mean-squared-error-4096x4096": [OfLimit(0.8)],
    "mean-absolute-error-4096x4096": [OfLimit(0.8)],
    "huber-4096x4096": [OfLimit(0.8)],
    "binary-cross-entropy-4096x4096": [OfLimit(0.7)],
    "softmax-cross-entropy-65536x10": [Faster(5, "PyTorch"), Faster(4, "JAX")],
    "softmax-cross-entropy-8192x1000": [OfLimit(0.7), Faster(2, "JAX")],
    "softmax-cross-entropy-1024x32000": [OfLimit(0.7), Faster(5, "PyTorch")],
    "softmax-cross-entropy-256x128256": [OfLimit(0.7), Faster(5, "PyTorch")],
    "softmax-cross-entropy-smoothed-8192x1000": [Within(1.1)],
    "softmax-cross-entropy-label-smoothing-8192x1000": [Within(1.1)],
    "softmax-cross-entropy-weighted-8192x1000": [Within(1.1)],
    "kl-divergence-8192x1000": [OfLimit(0.7), Faster(5, "torch.compile")],
    "contrastive-pairs-65536x128": [OfLimit(0.7), Faster(2, "torch.compile")],
    "triplet-65536x128": [OfLimit(0.7), Faster(2, "torch.compile")],
    "contrastive-all-4096x128x64": [OfLimit(0.6), Faster(4)],
    "triplet-hard-4096x128x64": [Faster(12)],
    "triplet-all-512x128x16": [Faster(100)],
    "triplet-all-8192x128x64": [OfLimit(0.125, "12 times the product of all distances"), PeakMemory(GIBIBYTE)],
    "clip-4096x512": [OfLimit(0.9), Faster(1)],
    "supervised-contrastive-4096x128x64": [Faster(4)],
    "info-nce-65536x128": [OfLimit(0.7), PeakMemory(GIBIBYTE)],
    "ctc-500x64x32x100": [Faster(30)],
    "ctc-1000x16x1000x80": [Faster(15)],
    "ctc-150x128x5000x20": [Faster(15), OfLimit(0.5)],
    "ctc-50x1024x32x10": [Faster(15)],
}


def rows(entries: Mapping[str, Entry]) -> list[list[str]]:
    """Workload, goal, what was reached, and whether that is enough; by name of the workload."""
    found = []
    for name, entry in entries.items():
        for goal in GOALS.get(name, []):
            reached = goal.reached(entry)
            if reached is None:
                found.append([name, goal.text, "", "not measured"])
            else:
                found.append([name, goal.text, goal.show(reached), "met" if goal.is_met(reached) else "missed"])
    return found
