"""Runs `bench serve` and its peers in turn on the same inputs, and writes docs/benchmarks.md and .svg.

Values and gradients must agree with PyTorch in float64 before anything is timed. Results are kept in
Benchmarks/results.json, so that a run of a few workloads leaves the others' rows in the table.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import report
from participants import REFERENCE, Child, Participant, ParticipantError, Times, interleave, ours, peers, rest
from workloads import WORKLOADS, Dimensions, Workload

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).with_name("results.json")
OURS = "BatchLoss"
PLAIN = "BatchLoss, plain"
OUR_TOLERANCE = 1e-5
"""Of ours, where peers are allowed more."""
Evaluated = tuple[float, dict[str, np.ndarray]]
"""Cost, and gradients by role."""


def main() -> None:
    try:
        compare(parse())
    except KeyboardInterrupt:
        sys.exit("compare: interrupted")
    except (OSError, ValueError) as error:
        sys.exit(f"compare: {error}")


def compare(options: argparse.Namespace) -> None:
    if options.list:
        for name, workload in WORKLOADS.items():
            shape = " ".join(f"{k}={v}" for k, v in workload.dimensions.items())
            print(f"{name:42} {shape}")
        return
    chosen = select(options.workloads)
    if not options.peers_only and not options.bench.exists():
        sys.exit(f"compare: {options.bench} is missing; build it first: swift build -c release --product bench")
    if os.getloadavg()[0] > 1 and not options.smoke:
        note("compare: the machine is busy with other work, which will show in the times")
    # Before results are written, which makes the tree differ from the commit.
    measured = commit()
    healthy, writes = True, not (options.smoke or options.peers_only)
    with Pool(options.workers, keep=options.smoke) as pool:
        for workload in chosen:
            entry = Comparison(workload, options, pool, measured).result()
            print(report.plain(workload.name, entry), flush=True)
            healthy = healthy and is_healthy(entry, options)
            if writes:
                report.store(RESULTS, {workload.name: entry})
    if writes:
        report.write(RESULTS, list(WORKLOADS), ROOT / "docs")
    if not healthy:
        sys.exit("compare: a participant failed, disagrees or could not be checked, see above")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="compare", description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", help="names, losses, or patterns such as 'softmax-*'")
    parser.add_argument("--bench", type=Path, default=ROOT / ".build/release/bench", help="the bench executable")
    parser.add_argument("--repeat", type=at_least(1), default=None, help="timed rounds (15; smoke: 2)")
    parser.add_argument("--warmup", type=at_least(0), default=2, help="rounds before them")
    parser.add_argument("--workers", type=at_least(1), default=2, help="threads of every participant")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes, stock allocator, nothing written")
    parser.add_argument("--peers-only", action="store_true", help="without bench; nothing written")
    parser.add_argument("--list", action="store_true", help="name the workloads and stop")
    options = parser.parse_args()
    options.repeat = options.repeat or (2 if options.smoke else 15)
    options.bench = options.bench.absolute()
    return options


def at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a number ≥ {least}, got {text}")
        return int(text)

    return number


def select(patterns: list[str]) -> list[Workload]:
    """A pattern is a name, the name of a workload of `bench list`, or has wildcards."""
    if not patterns:
        return list(WORKLOADS.values())
    chosen: dict[str, Workload] = {}
    for pattern in patterns:
        found = {n: w for n, w in WORKLOADS.items() if pattern in w.names or fnmatch.fnmatchcase(n, pattern)}
        if not found:
            sys.exit(f"compare: no workload {pattern}; --list names them")
        chosen |= found
    return list(chosen.values())


def is_healthy(entry: dict[str, Any], options: argparse.Namespace) -> bool:
    """Nobody disagrees, and ours was checked and timed; so was every peer where shapes are tiny."""
    participants = entry["participants"]
    if any(p.get("disagrees") for p in participants.values()):
        return False
    must = list(participants) if options.smoke else [] if options.peers_only else [OURS]
    return not any("failed" in participants[label] or participants[label]["unchecked"] for label in must)


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Pool:
    """Processes: one for each workload, so that memory is its own; or kept for all, where only speed matters."""

    def __init__(self, workers: int, keep: bool) -> None:
        self.workers = workers
        self.keep = keep
        self.children: dict[str, Child] = {}

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def child(self, participant: Participant) -> Child:
        child = self.children.get(participant.label)
        if child is None or child.process.poll() is not None:
            child = self.children[participant.label] = Child(participant, self.workers)
        return child

    def release(self) -> None:
        """At a workload's end."""
        if not self.keep:
            self.close()

    def release_one(self, participant: Participant) -> None:
        if not self.keep and participant.label in self.children:
            self.children.pop(participant.label).close()

    def close(self) -> None:
        for child in self.children.values():
            child.close()
        self.children.clear()


# MARK: - One workload


class Comparison:
    """One workload: inputs to files, agreement, rounds."""

    def __init__(self, workload: Workload, options: argparse.Namespace, pool: Pool, commit: str) -> None:
        self.workload = workload
        self.options = options
        self.pool = pool
        self.commit = commit
        self.dimensions: Dimensions = workload.smoke if options.smoke else workload.dimensions
        self.outcome: dict[str, dict[str, Any]] = {}
        self.environment: dict[str, Any] = machine()
        self.limit: dict[str, Any] | None = None
        self.plain: dict[str, Any] | None = None

    def result(self) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="compare-") as scratch, contextlib.ExitStack() as stack:
            stack.callback(self.pool.release)
            self.scratch = Path(scratch)
            inputs = self.workload.save_inputs(self.scratch, self.dimensions)
            checked_shape = self.workload.reduced(self.dimensions, available_memory() // 2)
            if is_reduced := checked_shape != self.dimensions:
                (self.scratch / "reduced").mkdir()
                reduced = self.workload.save_inputs(self.scratch / "reduced", checked_shape)
            reference = self.reference(reduced if is_reduced else inputs)
            children = {}
            for participant in self.participants():
                try:
                    child = self.checked(participant, reference, reduced if is_reduced else inputs)
                    if is_reduced:
                        self.load(child, inputs)
                    children[participant.label] = child
                except ParticipantError as error:
                    self.fail(participant.label, str(error))
            if OURS in children and self.workload.plain:
                try:
                    children[PLAIN] = self.plain_child(self.workload.plain)
                except ParticipantError as error:
                    note(f"  {PLAIN}: {error}")
            self.time(children)
        return {
            "shape": dict(self.dimensions),
            "checked_shape": dict(checked_shape),
            "repeat": self.options.repeat,
            "workers": self.options.workers,
            "commit": self.commit,
            "environment": self.environment,
            "limit": self.limit,
            "plain": self.plain,
            "participants": self.outcome,
        }

    def participants(self) -> list[Participant]:
        needed = self.workload.peer_bytes(self.dimensions)
        all_peers = peers(list(self.workload.extra), tuned=not self.options.smoke)
        if needed > available_memory():
            for peer in all_peers:
                self.outcome[peer.label] = {"failed": f"not run: needs {needed / 2**30:.0f} GiB"}
            all_peers = []
        return ([] if self.options.peers_only else [ours(self.options.bench, OURS)]) + all_peers

    def load(self, child: Child, inputs: dict[str, str]) -> None:
        """Replaces what the child holds, and forgets the memory that it took before."""
        child.reset_peak_memory()
        request = self.workload.load_request(inputs, self.options.workers)
        child.request("load", variant=child.participant.variant, **request)
        if child.participant.label in self.outcome:
            self.outcome[child.participant.label]["loaded_rss_bytes"] = child.peak_memory

    @contextlib.contextmanager
    def evaluated(self, child: Child, name: str) -> Iterator[Evaluated]:
        """Cost and gradients of one run; the files go afterwards."""
        cost = float(child.request("run")["cost"])
        files = child.request("gradient", path=str(self.scratch / f"{name}.npy"))["gradients"]
        try:
            yield cost, {role: np.load(path, mmap_mode="r") for role, path in files.items()}
        finally:
            for path in files.values():
                Path(path).unlink()

    def reference(self, inputs: dict[str, str]) -> Evaluated | None:
        """PyTorch in float64, in a process of its own that ends before the rounds."""
        try:
            child = self.pool.child(REFERENCE)
            self.load(child, inputs)
            with self.evaluated(child, "reference") as (cost, gradients):
                return cost, {role: np.array(values) for role, values in gradients.items()}
        except ParticipantError as error:
            note(f"  no float64 reference: {error}")
            return None
        finally:
            self.pool.release_one(REFERENCE)

    def checked(self, participant: Participant, reference: Evaluated | None, inputs: dict[str, str]) -> Child:
        """The participant's process, once its values were found to agree."""
        child = self.pool.child(participant)
        outcome: dict[str, Any] = {"unchecked": reference is None}
        self.outcome[participant.label] = outcome
        self.load(child, inputs)
        self.describe(participant, child.request("info"))
        with self.evaluated(child, "gradient") as (cost, gradients):
            if reference is not None:
                outcome |= agreement((cost, gradients), reference, self.workload.gradient_measure)
        tolerances = {"cost": self.workload.tolerance, "gradient": self.workload.gradient_tolerance}
        if participant.name == OURS:
            tolerances = {what: min(tolerance, OUR_TOLERANCE) for what, tolerance in tolerances.items()}
        for what, tolerance in tolerances.items():
            error = outcome.get(f"{what}_error", 0.0)
            if not error <= tolerance:
                outcome["disagrees"] = True
                raise ParticipantError(f"disagrees: the error of the {what} is {error:.0e}")
        return child

    def plain_child(self, plain: Workload) -> Child:
        """Ours without the options. Its values are checked where it is the workload."""
        (self.scratch / "plain").mkdir()
        child = self.pool.child(ours(self.options.bench, PLAIN))
        inputs = plain.save_inputs(self.scratch / "plain", self.dimensions)
        child.request("load", variant="", **plain.load_request(inputs, self.options.workers))
        return child

    def describe(self, participant: Participant, info: dict[str, Any]) -> None:
        self.environment |= info.get("versions", {})
        if participant.name == OURS:
            self.environment |= {key: info[key] for key in ("isa", "openblas") if key in info}

    def time(self, children: dict[str, Child]) -> None:
        if not children:
            return
        for child in children.values():
            child.reset_peak_memory()
        rates: list[dict[str, float]] = []
        work: dict[str, Any] = {}
        with contextlib.suppress(ParticipantError, KeyError):
            work = children[OURS].request("work")

        def measure_machine(label: str) -> None:
            if label == OURS and work:
                try:
                    rates.append(self.machine_rates(has_products=work["flops"] > 0))
                except ParticipantError as error:
                    note(f"  no limit: {error}")
                    work.clear()

        times, failed = interleave(children, self.options.repeat, self.options.warmup, measure_machine)
        if PLAIN in failed:
            note(f"  {PLAIN}: {failed.pop(PLAIN)}")
        for label, reason in failed.items():
            self.fail(label, reason)
        if (plain := times.pop(PLAIN, None)) and OURS in times:
            ratio = times[OURS].ratio(plain)
            self.plain = {"workload": self.workload.plain.name, "median_ms": plain.median, "ratio": ratio}
        for label, measured in times.items():
            self.outcome[label] |= summary(measured, times.get(OURS))
            self.outcome[label]["peak_rss_bytes"] = children[label].peak_memory
        if OURS in times and work:
            self.limit = limit(work, rates, times[OURS])

    def machine_rates(self, has_products: bool) -> dict[str, float]:
        """What memory and matrix products reach at this moment, with as many workers and next to nothing to do."""
        child = self.pool.child(ours(self.options.bench, "machine"))
        sizes = {"footprint": 1 << 25, "repeats": 1} if self.options.smoke else {"footprint": 1 << 30, "repeats": 5}
        rates = child.request("rates", workers=self.options.workers, products=has_products, **sizes)
        rest([child])
        return rates

    def fail(self, label: str, reason: str) -> None:
        note(f"  {label}: {reason}")
        self.outcome[label] = self.outcome.get(label, {}) | {"failed": reason}


def summary(measured: Times, of_ours: Times | None) -> dict[str, Any]:
    return {
        "median_ms": measured.median,
        "min_ms": measured.minimum,
        "spread": measured.spread,
        "page_faults": statistics.median(measured.page_faults),
        "ratio": measured.ratio(of_ours) if of_ours else None,
    }


def limit(work: dict[str, Any], rates: list[dict[str, float]], of_ours: Times) -> dict[str, Any]:
    """The least time for what must be moved and multiplied, and what part of our time that is.

    Medians over the rounds: as with peers, each part is of one moment's machine.
    """
    kinds = {"bytes_per_second": work["bytes"], "flops_per_second": work["flops"]}
    limits = [max(kinds[kind] / rate for kind, rate in measured.items()) * 1e3 for measured in rates]
    parts = [least / mine for least, mine in zip(limits, of_ours.milliseconds, strict=True)]
    medians = {kind: statistics.median(measured[kind] for measured in rates) for kind in rates[0]}
    return work | medians | {"limit_ms": statistics.median(limits), "fraction": statistics.median(parts)}


def agreement(evaluated: Evaluated, reference: Evaluated, measure: str) -> dict[str, float]:
    """The cost's relative error and the largest of the gradients'."""
    (cost, gradients), (true_cost, true_gradients) = evaluated, reference
    if gradients.keys() != true_gradients.keys():
        raise ParticipantError(f"gradients for {sorted(gradients)} instead of {sorted(true_gradients)}")
    errors = [gradient_error(gradients[role], true_gradients[role], measure) for role in gradients]
    return {"cost_error": abs(cost - true_cost) / abs(true_cost), "gradient_error": float(np.max(errors))}


def gradient_error(values: np.ndarray, truth: np.ndarray, measure: str) -> float:
    """As `Workload.gradient_measure` says."""
    if values.shape != truth.shape:
        raise ParticipantError(f"a gradient of shape {values.shape} instead of {truth.shape}")
    if measure == "most rows":
        by_norm = relative_norm(values, truth, 2)
        return error_of_most_rows(values, truth) if by_norm <= 0.1 else by_norm
    return relative_norm(values, truth, 2 if measure == "norm" else np.inf)


def relative_norm(values: np.ndarray, truth: np.ndarray, order: float) -> float:
    # By norms of norms, because NaN passes through them, and not through max().
    parts = zip(blocks(values), blocks(truth), strict=True)
    norms = [(np.linalg.norm(mine - true, order), np.linalg.norm(true, order)) for mine, true in parts]
    error, scale = np.linalg.norm(norms, order, axis=0)
    return float(error / scale) if scale else float(error)


def error_of_most_rows(values: np.ndarray, truth: np.ndarray) -> float:
    by_row = np.abs(values - truth.astype(np.float64)).max(axis=-1)
    return float(np.quantile(by_row, 0.75) / np.abs(truth).max())


def blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    """In float64, a part at a time."""
    flat = values.reshape(-1)
    for start in range(0, flat.size, 1 << 22):
        yield flat[start : start + (1 << 22)].astype(np.float64)


# MARK: - The machine


def machine() -> dict[str, Any]:
    return {
        "processor": processor(),
        "cpus": os.cpu_count(),
        "memory_gib": round(meminfo("MemTotal") / 2**30),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = fields.get("model name", platform.machine())
    return f"{name} (family {fields['cpu family']}, model {fields['model']})" if "cpu family" in fields else name


def meminfo(key: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return 0


def available_memory() -> int:
    return meminfo("MemAvailable")


def commit() -> str:
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=ROOT, capture_output=True, text=True
    )
    return described.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
