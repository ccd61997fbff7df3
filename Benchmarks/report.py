"""Results as a table, a chart and plain text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import goals
from results import (
    OURS,
    Entry,
    best_peer,
    better_allocator,
    fraction_of_limit,
    mebibytes,
    milliseconds,
    percent,
    scientific,
    times,
)

COLUMNS = ["PyTorch", "torch.compile", "JAX"]
BEGIN, END = "<!-- results: begin (written by make compare) -->", "<!-- results: end -->"


# MARK: - Cells


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
    checked = entry.get("checked_shape", entry["shape"])
    of_fewer = f" ({checked['rows']} rows)" if checked != entry["shape"] else ""
    for label, p in entry["participants"].items():
        if "failed" in p:
            yield [name, label, p["failed"], *[""] * 7]
            continue
        yield [
            name,
            label,
            milliseconds(p["median_ms"]),
            milliseconds(p["min_ms"]),
            percent(p["spread"]),
            times(p["ratio"]),
            f"{mebibytes(p['peak_rss_bytes'])} ({mebibytes(p['peak_rss_bytes'] - p['loaded_rss_bytes'])})",
            f"{p['page_faults']:.0f}" if "page_faults" in p else "",
            "not checked" if p.get("unchecked") else scientific(p.get("cost_error")) + of_fewer,
            "not checked" if p.get("unchecked") else scientific(p.get("gradient_error")) + of_fewer,
        ]


def limit_row(name: str, entry: Entry) -> list[str]:
    limit = entry["limit"]
    moved, multiplied = limit["bytes"], limit["flops"]
    return [
        name,
        f"{moved / 1e6:.1f}",
        f"{limit['bytes_per_second'] / 1e9:.1f}",
        milliseconds(moved / limit["bytes_per_second"] * 1e3),
        f"{multiplied / 1e9:.1f}" if multiplied else "",
        f"{limit['flops_per_second'] / 1e9:.0f}" if multiplied else "",
        milliseconds(multiplied / limit["flops_per_second"] * 1e3) if multiplied else "",
        milliseconds(limit["limit_ms"]),
    ]


def environment_lines(entries: list[Entry]) -> list[str]:
    def every(key: str) -> str:
        return ", ".join(dict.fromkeys(str(e["environment"][key]) for e in entries if key in e["environment"]))

    def every_entry(key: str) -> str:
        return ", ".join(dict.fromkeys(str(e[key]) for e in entries))

    machine = entries[0]["environment"]
    commits = ", ".join(dict.fromkeys(entry["commit"] for entry in entries))
    names = ("torch", "jax", "optax", "pytorch-metric-learning", "faiss-cpu", "scikit-learn", "python")
    software = ", ".join(f"{key} {every(key)}" for key in names if every(key))
    return [
        f"- Machine: {machine['processor']}, {machine['cpus']} CPUs, {machine['memory_gib']} GiB.",
        f"- Linux {every('kernel')}.",
        f"- BatchLoss at {commits}; instruction set {every('isa')}; {every('openblas')}.",
        f"- Peers: {software}.",
        f"- {every_entry('workers')} threads each, {every_entry('repeat')} rounds.",
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
    details = ["work", "participant", "median, ms", "minimum", "spread", "ratio", "memory, MiB", "faults"]
    details += ["cost", "gradient"]
    rows = [main_row(name, entry, peers) for name, entry in results.items()]
    every = [row for name, entry in results.items() for row in detail_rows(name, entry)]
    aims = goals.rows(results)
    limits = [limit_row(name, entry) for name, entry in results.items() if entry.get("limit")]
    limit_header = ["work", "moved, MB", "GB/s", "of memory, ms"]
    limit_header += ["products, GFLOP", "GFLOP/s", "of products, ms", "limit, ms"]
    return [
        *environment_lines(list(results.values())),
        "",
        *table(header, rows),
        "",
        "Medians. † marks a peer that was faster with the tuned allocator. The ratio is to the best peer, the median",
        "over the rounds. Memory is the peak resident size of our process and of the best peer's.",
        "",
        *(["Goals:", "", *table(["work", "goal", "reached", ""], aims), ""] if aims else []),
        "<details><summary>How each limit is computed</summary>",
        "",
        *table(limit_header, limits),
        "",
        "Bytes that must move over the bandwidth of a non-temporal copy of 1 GiB, or the operations of matrix products",
        "over the rate of products, whichever takes longer. Both rates are measured in each round, right after",
        "BatchLoss, by the best of five; the table has medians. What part of its time the limit is comes from each",
        "round's own rates, by the median as well.",
        "",
        "</details>",
        "",
        "<details><summary>Every participant</summary>",
        "",
        *table(details, every),
        "",
        "Spread is the interquartile range over the median. Memory is the peak of the rounds, in brackets what that is",
        "beyond the peak before the first evaluation.",
        "Faults are pages mapped in a run, by the median: the tuned allocator is there to make them 0.",
        "Cost and gradient are errors against PyTorch in float64: relative, and relative to the largest component; of",
        "batch-hard by their norms, and of semi-hard mining in three rows of four, because rounding decides there",
        "which of two negatives is chosen. Where a reference of the whole batch would not fit into memory, values are",
        "checked on the number of rows in brackets.",
        "",
        "</details>",
    ]


def write(results: Path, order: list[str], docs: Path) -> None:
    stored = json.loads(results.read_text())
    known = {name: stored[name] for name in order if name in stored}
    lines = [line for group in grouped(known) for line in ["", *section(group)]]
    if missing := [name for name in order if name not in known]:
        lines += ["", f"Not measured yet: {', '.join(missing)}."]
    page = docs / "benchmarks.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text("\n".join([before + BEGIN, *lines, "", END]) + after)
    draw(known, docs / "benchmarks.svg")


def store(path: Path, entries: dict[str, Entry]) -> None:
    stored = json.loads(path.read_text()) if path.exists() else {}
    # Never half a file: a run takes long, and may be interrupted here.
    new = path.with_suffix(".new")
    new.write_text(json.dumps(stored | entries, indent=1, sort_keys=True) + "\n")
    new.replace(path)


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
    if beside := entry.get("plain"):
        lines.append(f"  {'plain':24} {beside['median_ms']:10.3f} ms  ours {times(beside['ratio'])}")
    if entry.get("limit"):
        lines.append(f"  {'limit':24} {entry['limit']['limit_ms']:10.3f} ms  {percent(fraction_of_limit(entry))}")
    return "\n".join(lines)


# MARK: - Chart

MARKERS = [
    ("o", "#d62728"),
    ("s", "#ee9944"),
    ("D", "#8c5a1a"),
    ("^", "#4477aa"),
    ("v", "#44aa77"),
    ("P", "#888888"),
    ("X", "#aa4499"),
    ("*", "#222222"),
]
"""Of ours and of each peer: told apart by shape where colours are not."""


def marked(series: list[str]) -> list[tuple[str, tuple[str, str]]]:
    """Every participant with its marker; an error where there are fewer markers."""
    return list(zip(series, MARKERS[: len(series)], strict=True))


def draw(results: dict[str, Entry], path: Path) -> None:
    """Points, because lengths of bars mean nothing on a logarithmic scale; a panel for each machine."""
    import matplotlib

    matplotlib.use("svg")
    # The same results must give the same file.
    matplotlib.rcParams |= {"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 9}
    import matplotlib.pyplot as plt

    groups = grouped(results)
    series = [OURS, *COLUMNS, *extra_peers(results)]
    heights = [len(group) for group in groups]
    figure, panels = plt.subplots(
        len(groups),
        figsize=(9, 1.3 + 0.9 * (len(groups) - 1) + 0.27 * sum(heights)),
        height_ratios=heights,
        sharex=True,
        squeeze=False,
    )
    for axes, group in zip(panels[:, 0], groups, strict=True):
        panel(axes, group, series)
    handles: list[Any] = [
        plt.Line2D([], [], marker=marker, color=color, linestyle="", markersize=6)
        for _, (marker, color) in marked(series)
    ]
    handles.append(plt.Line2D([], [], marker="|", color="black", linestyle="", markersize=10, markeredgewidth=1.5))
    figure.legend(
        handles, [*series, "limit"], loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(series) + 1, frameon=False
    )
    panels[-1, 0].set_xlabel("milliseconds for cost and gradients; left is faster")
    figure.tight_layout()
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None}, facecolor="white")
    plt.close(figure)


def panel(axes: Any, group: dict[str, Entry], series: list[str]) -> None:
    from matplotlib.ticker import FuncFormatter

    for row, entry in enumerate(group.values()):
        found = {name: better_allocator(entry, name) for name in series}
        measured = {name: peer[1]["median_ms"] for name, peer in found.items() if peer}
        if measured:
            axes.plot([min(measured.values()), max(measured.values())], [row, row], color="#cccccc", zorder=1)
        for name, (marker, color) in marked(series):
            if name in measured:
                front = 4 if name == OURS else 3
                axes.plot(measured[name], row, marker, color=color, markersize=6, zorder=front)
        if entry.get("limit"):
            axes.plot(entry["limit"]["limit_ms"], row, "|", color="black", markersize=12, markeredgewidth=1.5)
        best = best_peer(entry)
        label = times(best[1]["ratio"]) if best else ""
        axes.text(1.01, row, label, transform=axes.get_yaxis_transform(), va="center")
    axes.text(1.01, -1, "best peer / ours", transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.set_yticks(range(len(group)), list(group))
    axes.set_ylim(len(group) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="x", which="major", alpha=0.5)
    axes.grid(axis="x", which="minor", alpha=0.15)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    processor = next(iter(group.values()))["environment"]
    axes.set_title(f"{processor['processor']}, {processor['cpus']} CPUs", loc="left", fontsize=9)
