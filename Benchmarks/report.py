"""Results as a table, a chart and plain text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Entry = dict[str, Any]
OURS = "BatchLoss"
COLUMNS = ["PyTorch", "torch.compile", "JAX"]
BEGIN, END = "<!-- results: begin (written by make compare) -->", "<!-- results: end -->"


# MARK: - Reading an entry


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
    mine = timed(entry).get(OURS)
    return entry["limit"]["limit_ms"] / mine["median_ms"] if mine and entry.get("limit") else None


# MARK: - Cells


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


def peer_cell(entry: Entry, name: str) -> str:
    found = better_allocator(entry, name)
    if found is None:
        reasons = [p["failed"] for label, p in entry["participants"].items() if label == name and "failed" in p]
        return reasons[0] if reasons else ""
    label, peer = found
    return milliseconds(peer["median_ms"]) + (" †" if label.endswith(", tuned") else "")


def table(header: list[str], rows: Iterable[list[str]]) -> list[str]:
    aligned = ["---"] + ["---:"] * (len(header) - 1)
    return ["| " + " | ".join(row) + " |" for row in [header, aligned, *rows]]


# MARK: - Documents


def main_row(name: str, entry: Entry, peers: list[str]) -> list[str]:
    mine = entry["participants"].get(OURS, {})
    best = best_peer(entry)
    memory = f"{mebibytes(mine.get('peak_rss_bytes'))} / {mebibytes(best[1]['peak_rss_bytes']) if best else ''}"
    return [
        name,
        milliseconds(entry["limit"]["limit_ms"]) if entry.get("limit") else "",
        milliseconds(mine["median_ms"]) if "median_ms" in mine else mine.get("failed", ""),
        percent(fraction_of_limit(entry)),
        *(peer_cell(entry, peer) for peer in peers),
        times(best[1]["ratio"]) if best else "",
        memory,
    ]


def detail_rows(name: str, entry: Entry) -> Iterable[list[str]]:
    for label, p in entry["participants"].items():
        if "failed" in p:
            yield [name, label, p["failed"], "", "", "", "", "", ""]
            continue
        yield [
            name,
            label,
            milliseconds(p["median_ms"]),
            milliseconds(p["min_ms"]),
            percent(p["spread"]),
            times(p["ratio"]),
            f"{mebibytes(p['peak_rss_bytes'])} ({mebibytes(p['peak_rss_bytes'] - p['loaded_rss_bytes'])})",
            scientific(p.get("cost_error")),
            scientific(p.get("gradient_error")),
        ]


def limit_row(name: str, entry: Entry) -> list[str]:
    limit = entry["limit"]
    seconds = limit["limit_ms"] / 1e3
    operations = limit.get("flops", 0)
    return [
        name,
        f"{limit['bytes'] / 1e6:.1f}",
        f"{limit['bytes'] / seconds / 1e9:.1f}",
        f"{operations / 1e9:.1f}" if operations else "",
        f"{operations / seconds / 1e9:.1f}" if operations else "",
        milliseconds(limit["limit_ms"]),
    ]


def environment_lines(entries: list[Entry]) -> list[str]:
    def every(key: str) -> str:
        return ", ".join(dict.fromkeys(str(e["environment"][key]) for e in entries if key in e["environment"]))

    machine = entries[0]["environment"]
    commits = ", ".join(dict.fromkeys(entry["commit"] for entry in entries))
    software = ", ".join(f"{key} {every(key)}" for key in ("torch", "jax", "optax", "python"))
    return [
        f"- Machine: {machine['processor']}, {machine['cpus']} CPUs, {machine['memory_gib']} GiB.",
        f"- Linux {every('kernel')}.",
        f"- BatchLoss at {commits}; instruction set {every('isa')}; {every('openblas')}.",
        f"- Peers: {software}.",
        f"- {entries[0]['workers']} threads each, {entries[0]['repeat']} rounds.",
    ]


def grouped(results: dict[str, Entry]) -> list[dict[str, Entry]]:
    """Results of different machines do not belong in one table."""
    groups: dict[tuple[str, ...], dict[str, Entry]] = {}
    for name, entry in results.items():
        machine = tuple(str(entry["environment"][key]) for key in ("processor", "cpus", "memory_gib"))
        groups.setdefault(machine, {})[name] = entry
    return list(groups.values())


def extra_peers(results: dict[str, Entry]) -> list[str]:
    names = {label.removesuffix(", tuned") for entry in results.values() for label in entry["participants"]}
    return sorted(names - {OURS, *COLUMNS})


def section(results: dict[str, Entry]) -> list[str]:
    peers = COLUMNS + extra_peers(results)
    header = ["work", "limit, ms", "BatchLoss, ms", "of the limit", *peers, "best peer / BatchLoss", "memory, MiB"]
    details = ["work", "participant", "median, ms", "minimum", "spread", "ratio", "memory, MiB", "cost", "gradient"]
    rows = [main_row(name, entry, peers) for name, entry in results.items()]
    every = [row for name, entry in results.items() for row in detail_rows(name, entry)]
    limits = [limit_row(name, entry) for name, entry in results.items() if entry.get("limit")]
    limit_header = ["work", "moved, MB", "at GB/s", "products, GFLOP", "at GFLOP/s", "limit, ms"]
    return [
        *environment_lines(list(results.values())),
        "",
        *table(header, rows),
        "",
        "Medians. † marks a peer that was faster with the tuned allocator. The ratio is to the best peer, the median",
        "over the rounds. Memory is the peak resident size of our process and of the best peer's.",
        "",
        "<details><summary>How each limit is computed</summary>",
        "",
        *table(limit_header, limits),
        "",
        "Bytes that must move over the bandwidth of a copy measured beside the run, or the operations of matrix products",
        "over the measured rate of products, whichever takes longer. The rates are those that reach the limit: the one of",
        "the two that takes less time is below what the machine can do.",
        "",
        "</details>",
        "",
        "<details><summary>Every participant</summary>",
        "",
        *table(details, every),
        "",
        "Spread is the interquartile range over the median. Memory in brackets is what came after loading the inputs.",
        "Cost and gradient are errors against PyTorch in float64: relative, and relative to the largest component.",
        "",
        "</details>",
    ]


def write(results: Path, order: list[str], docs: Path) -> None:
    stored = json.loads(results.read_text())
    known = {name: stored[name] for name in order if name in stored}
    lines = [line for group in grouped(known) for line in ["", *section(group)]]
    page = docs / "benchmarks.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text("\n".join([before + BEGIN, *lines, "", END]) + after)
    draw(known, docs / "benchmarks.svg")


def store(path: Path, entries: dict[str, Entry]) -> None:
    stored = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(stored | entries, indent=1, sort_keys=True) + "\n")


def plain(name: str, entry: Entry) -> str:
    shape = " ".join(f"{key} {size}" for key, size in entry["shape"].items())
    lines = [f"{name}: {shape}"]
    for label, p in entry["participants"].items():
        if "failed" in p:
            lines.append(f"  {label:24} {p['failed']}")
            continue
        ratio = f"{times(p['ratio']):>7}" if p["ratio"] else ""
        errors = f"errors {scientific(p.get('cost_error'))} {scientific(p.get('gradient_error'))}"
        figures = f"{p['median_ms']:10.3f} ms  min {p['min_ms']:10.3f}  ±{percent(p['spread']):>5}"
        lines.append(f"  {label:24} {figures} {ratio}  {mebibytes(p['peak_rss_bytes'])} MiB  {errors}")
    if entry.get("limit"):
        lines.append(f"  {'limit':24} {entry['limit']['limit_ms']:10.3f} ms  {percent(fraction_of_limit(entry))}")
    return "\n".join(lines)


# MARK: - Chart


def draw(results: dict[str, Entry], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    # The same results must give the same file.
    matplotlib.rcParams |= {"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 9}
    import matplotlib.pyplot as plt

    series = [OURS, *COLUMNS, *extra_peers(results)]
    colors = ["#d62728", "#ee9944", "#bb7722", "#4477aa", "#66aa77", "#888888"]
    thickness = 0.8 / len(series)
    figure, axes = plt.subplots(figsize=(9, 1 + 0.16 * (len(series) + 1) * len(results)))
    for row, entry in enumerate(results.values()):
        for i, name in enumerate(series):
            found = better_allocator(entry, name)
            if found:
                y = row + (i - (len(series) - 1) / 2) * thickness
                axes.barh(y, found[1]["median_ms"], thickness * 0.92, color=colors[i % len(colors)])
        if entry.get("limit"):
            limit = entry["limit"]["limit_ms"]
            axes.plot([limit, limit], [row - 0.42, row + 0.42], color="black", linewidth=1.2)
    handles: list[Any] = [plt.Rectangle((0, 0), 1, 1, color=colors[i % len(colors)]) for i in range(len(series))]
    handles.append(plt.Line2D([], [], color="black", linewidth=1.2))
    axes.legend(
        handles, [*series, "limit"], loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(series) + 1, frameon=False
    )
    axes.set_yticks(range(len(results)), list(results))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds, cost and gradients; shorter is better")
    axes.grid(axis="x", which="major", alpha=0.4)
    axes.set_axisbelow(True)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
