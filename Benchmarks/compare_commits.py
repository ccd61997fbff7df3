"""Compares two commits on this machine: both are built in release, then run in turn on the same inputs.

    python compare_commits.py BASE [HEAD [NAME ...]]

Nothing is written but the table on standard output, and it passes no judgement.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from compare import ROOT, at_least, note, select
from participants import Child, Participant, ParticipantError, Times, interleave, ours
from workloads import Workload


def main() -> None:
    try:
        compare(parse())
    except KeyboardInterrupt:
        sys.exit("compare_commits: interrupted")
    except OSError as error:
        sys.exit(f"compare_commits: {error}")


def compare(options: argparse.Namespace) -> None:
    chosen = select(options.workloads)
    base, head = (resolved(revision) for revision in (options.base, options.head))
    if base == head:
        sys.exit(f"compare_commits: {options.base} and {options.head} are the same commit")
    participants = [ours(built(revision, options.cache), revision) for revision in (base, head)]
    print(f"{'':44} {base:>12} {head:>12}  ratio (above 1: {head} is faster)")
    for workload in chosen:
        print(line(workload, participants, options), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="compare_commits", description=__doc__.splitlines()[0])
    parser.add_argument("base", help="a git revision")
    parser.add_argument("head", nargs="?", default="HEAD", help="another (HEAD)")
    parser.add_argument("workloads", nargs="*", metavar="NAME", help="as in compare.py")
    parser.add_argument("--repeat", type=at_least(1), default=15)
    parser.add_argument("--warmup", type=at_least(0), default=2)
    parser.add_argument("--workers", type=at_least(1), default=2)
    parser.add_argument("--cache", type=Path, default=ROOT / ".build/commits", help="where builds are kept")
    return parser.parse_args()


# MARK: - Builds


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"compare_commits: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip()


def resolved(revision: str) -> str:
    return git("rev-parse", "--short=10", "--verify", f"{revision}^{{commit}}")


def built(revision: str, cache: Path) -> Path:
    """The revision's bench, from an earlier call or built in a checkout that goes away."""
    bench = cache / revision / "bench"
    if bench.exists():
        return bench
    note(f"building {revision}")
    checkout = cache / f"{revision}-checkout"
    scratch = cache / f"{revision}-scratch"
    git("worktree", "add", "--force", "--detach", str(checkout), revision)
    try:
        command = ["swift", "build", "-c", "release", "--product", "bench", "--scratch-path", str(scratch)]
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
        if done.returncode:
            reasons = [text for text in (done.stdout + done.stderr).splitlines() if "error" in text]
            sys.exit(f"compare_commits: {revision} does not build: {reasons[0] if reasons else 'see swift build'}")
        bench.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(scratch / "release/bench", bench)
    finally:
        git("worktree", "remove", "--force", str(checkout))
        shutil.rmtree(scratch, ignore_errors=True)
    return bench


# MARK: - Runs


def line(workload: Workload, participants: list[Participant], options: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory(prefix="compare-") as scratch, contextlib.ExitStack() as stack:
        inputs = workload.save_inputs(Path(scratch), workload.dimensions)
        children = {}
        try:
            for participant in participants:
                child = Child(participant, options.workers)
                stack.callback(child.close)
                child.request("load", **workload.load_request(inputs, options.workers))
                children[participant.label] = child
        except ParticipantError as error:
            return f"{workload.name:44} {error}"
        times, failed = interleave(children, options.repeat, options.warmup)
    if failed:
        return f"{workload.name:44} {'; '.join(failed.values())}"
    before, after = (times[participant.label] for participant in participants)
    return f"{workload.name:44} {cell(before)} {cell(after)}  {before.ratio(after):.3f}"


def cell(times: Times) -> str:
    return f"{times.median:9.3f} ms"


if __name__ == "__main__":
    main()
