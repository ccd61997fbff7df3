"""Reading what was measured, and how numbers are written."""

from __future__ import annotations

import math
from typing import Any

Entry = dict[str, Any]
OURS = "BatchLoss"


def timed(entry: Entry) -> dict[str, Entry]:
    return {label: p for label, p in entry["participants"].items() if "median_ms" in p}


def better_allocator(entry: Entry, name: str) -> tuple[str, Entry] | None:
    """The faster of a peer's two processes."""
    found = {label: p for label, p in timed(entry).items() if label.removesuffix(", tuned") == name}
    return min(found.items(), key=lambda item: item[1]["median_ms"], default=None)


def best_peer(entry: Entry) -> tuple[str, Entry] | None:
    found = {label: p for label, p in timed(entry).items() if label != OURS}
    return min(found.items(), key=lambda item: item[1]["median_ms"], default=None)


def fraction_of_limit(entry: Entry) -> float | None:
    return entry["limit"]["fraction"] if entry.get("limit") else None


def times_plain(entry: Entry) -> float | None:
    """How many times as long ours took as without the workload's options."""
    return entry["plain"]["ratio"] if entry.get("plain") else None


# MARK: - Numbers


def milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.{max(0, 2 - max(0, math.floor(math.log10(value))))}f}"


def mebibytes(value: float | None) -> str:
    return "" if value is None else f"{value / 2**20:.0f}"


def times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}×" if value < 10 else f"{value:.0f}×"


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def scientific(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}"
