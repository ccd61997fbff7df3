"""Processes that answer one JSON line per request, and rounds in which each of them runs once."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

TUNED_ALLOCATOR = {
    # Freed memory stays with the process: no page is mapped and zeroed anew for each temporary.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(1 << 28),
}
ONE_ARENA = {
    # JAX allocates on threads of its own. Their arenas give heaps back whatever the threshold for trimming says, and
    # cannot hold more than 64 MiB each, so that only the main arena keeps what was freed.
    "MALLOC_ARENA_MAX": "1",
}


class ParticipantError(Exception):
    """One line on why a participant has no result."""


@dataclass(frozen=True)
class Participant:
    name: str
    command: Sequence[str]
    variant: str = ""
    allocator: Mapping[str, str] | None = None
    """Variables that tune glibc's allocator; none for the stock one."""
    directory: Path = HERE

    @property
    def label(self) -> str:
        return f"{self.name}, tuned" if self.allocator else self.name


def ours(bench: Path, name: str = "BatchLoss") -> Participant:
    return Participant(name, [str(bench), "serve"])


def peers(extra: Sequence[str], tuned: bool) -> list[Participant]:
    """Each peer with the stock allocator, and with the tuned one if asked."""
    kinds = [
        ("PyTorch", "torch_worker", "eager", TUNED_ALLOCATOR),
        ("torch.compile", "torch_worker", "compile", TUNED_ALLOCATOR),
        ("JAX", "jax_worker", "jit", TUNED_ALLOCATOR | ONE_ARENA),
        *((name, "torch_worker", name, TUNED_ALLOCATOR) for name in extra),
    ]
    return [
        Participant(name, [sys.executable, "-m", f"peers.{module}"], variant, allocator)
        for name, module, variant, tuning in kinds
        for allocator in ([None, tuning] if tuned else [None])
    ]


REFERENCE = Participant("reference", [sys.executable, "-m", "peers.torch_worker"], "reference")


def cores(count: int) -> set[int]:
    """CPUs of as many different cores, so that every participant gets the same ones."""
    allowed = sorted(os.sched_getaffinity(0))
    first_of_core: dict[str, int] = {}
    for cpu in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        first_of_core.setdefault(siblings.read_text() if siblings.exists() else str(cpu), cpu)
    chosen = list(first_of_core.values())
    return set((chosen + [cpu for cpu in allowed if cpu not in chosen])[:count])


class Child:
    """A participant's process."""

    def __init__(self, participant: Participant, workers: int) -> None:
        threads = {name: str(workers) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        environment = os.environ | threads | {"JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": "1"}
        self.participant = participant
        self.notes = tempfile.TemporaryFile("w+")
        try:
            self.process = subprocess.Popen(
                participant.command,
                cwd=participant.directory,
                env=environment | dict(participant.allocator or {}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.notes,
                text=True,
                bufsize=1,
                preexec_fn=lambda: restrict(cores(workers)),
            )
        except OSError as error:
            raise ParticipantError(f"cannot start {participant.command[0]}: {error.strerror}") from None
        except subprocess.SubprocessError:
            raise ParticipantError(f"cannot bind {participant.command[0]} to {workers} CPUs") from None

    def request(self, op: str, **fields: Any) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps({"op": op, **fields}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ParticipantError(self.last_words())
        try:
            answer = json.loads(line)
        except json.JSONDecodeError:
            raise ParticipantError(f"answered no JSON: {line.strip()[:120]}") from None
        if "error" in answer:
            raise ParticipantError(answer["error"])
        return answer

    def stat(self) -> list[int]:
        """The numbers of proc(5)'s stat from the fourth on: without process, command and state."""
        return list(map(int, Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[1:]))

    @property
    def page_faults(self) -> int:
        """Pages mapped so far without a disk: those of fresh memory, which the tuned allocator is to avoid."""
        return self.stat()[6]

    @property
    def processor_ticks(self) -> int:
        """The processor time of all threads so far."""
        user, system = self.stat()[10:12]
        return user + system

    @property
    def peak_memory(self) -> int:
        """The most bytes it held since `reset_peak_memory`."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0

    def reset_peak_memory(self) -> None:
        """Forgets what was held before, where the kernel can (proc(5), clear_refs)."""
        with contextlib.suppress(OSError):
            Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def last_words(self) -> str:
        status = self.process.wait()
        if status == -9:
            return "killed, most likely for want of memory"
        self.notes.seek(0)
        lines = [line.strip() for line in self.notes if line.strip()]
        return f"ended with status {status}" + (f": {lines[-1][:160]}" if lines else "")

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.notes.close()


def restrict(cpus: set[int]) -> None:
    """In the child: the CPUs it may use, and the wish to be the one that is killed when memory ends."""
    os.sched_setaffinity(0, cpus)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


# MARK: - Rounds

PAUSE = 0.03
"""Seconds in which nobody may use a processor before the next run."""
LONGEST_REST = 20
"""Pauses after which a run begins all the same."""


@dataclass
class Times:
    milliseconds: list[float] = field(default_factory=list)
    page_faults: list[int] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.milliseconds)

    @property
    def minimum(self) -> float:
        return min(self.milliseconds)

    @property
    def spread(self) -> float:
        """The interquartile range over the median."""
        if len(self.milliseconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.milliseconds, n=4, method="inclusive")
        return (high - low) / self.median

    def ratio(self, other: Times) -> float:
        """How many times longer this took than the other: the median over the rounds, each of one moment's machine."""
        pairs = zip(self.milliseconds, other.milliseconds, strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)


SHORT = 100.0
"""Milliseconds of the fastest participant up to which each run of a workload follows on others without a clock: caches
hold what other participants left there, and processors that slept take a while to wake, neither of which a loop of
training steps sees. Longer runs hardly notice."""
AWAKE = 100.0
"""Milliseconds of runs without a clock until processors are awake: on a virtual machine a second thread started 1.5 ms
late after a pause of 30 ms, and in one run in three for tens of milliseconds after that."""


def rest(children: Iterable[Child]) -> None:
    """Waits until nobody holds a processor: threads spin on after a run, those of scikit-learn's OpenBLAS for 90 ms."""
    found = list(children)
    for _ in range(LONGEST_REST):
        before = [child.processor_ticks for child in found]
        time.sleep(PAUSE)
        if [child.processor_ticks for child in found] == before:
            return


def timed_run(child: Child, warms: bool = False) -> tuple[float, int]:
    """Milliseconds of one evaluation, by the participant's clock, and the pages that were mapped for it."""
    warmed = 0.0
    while warms and warmed < AWAKE:
        warmed += max(float(child.request("run")["ms"]), 0.1)
    before = child.page_faults
    milliseconds = float(child.request("run")["ms"])
    return milliseconds, child.page_faults - before


def interleave(
    children: Mapping[str, Child], repeat: int, warmup: int, after: Callable[[str], None] = lambda label: None
) -> tuple[dict[str, Times], dict[str, str]]:
    """Rounds in which each runs once; and why some did not last.

    Each round begins with the next, and every other one goes backwards, so that nobody always follows the same.
    `after` is told whose time was just taken.
    """
    times = {label: Times() for label in children}
    failed: dict[str, str] = {}
    warms = warmup == 0
    fastest = float("inf")
    for round_ in range(warmup + repeat):
        labels = list(children)
        shift = round_ % len(labels)
        turns = labels[shift:] + labels[:shift]
        for label in turns if round_ % 2 == 0 else reversed(turns):
            if label in failed:
                continue
            rest(child for other, child in children.items() if other not in failed)
            try:
                elapsed, faults = timed_run(children[label], warms)
            except ParticipantError as error:
                failed[label] = str(error)
                continue
            fastest = min(fastest, elapsed)
            if round_ >= warmup:
                times[label].milliseconds.append(elapsed)
                times[label].page_faults.append(faults)
                after(label)
        warms = fastest < SHORT
    return {label: t for label, t in times.items() if label not in failed}, failed
