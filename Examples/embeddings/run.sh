#!/usr/bin/env bash
# Evaluates every loss on embeddings with its gradient on handwritten digits, compares with PyTorch, and finds the
# nearest class for each digit by batch-loss distances.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 - "$here" "$work" "$here/../../.build/release/batch-loss" <<'PYTHON'
import array
import json
import math
import re
import subprocess
import sys

here, work, tool = sys.argv[1:]
expected = json.load(open(f"{here}/expected.json"))


def run(*arguments):
    return json.loads(subprocess.run([tool, *arguments, "--json"], check=True, capture_output=True, text=True).stdout)


def flag(name, value):
    name = re.sub("[A-Z]", lambda letter: "-" + letter[0].lower(), name)
    return [f"--{name}" if value else f"--no-{name}"] if isinstance(value, bool) else [f"--{name}={value}"]


def load(path, letter="f"):
    """The rows of a matrix in a .npy file."""
    with open(path, "rb") as file:
        prefix = file.read(10)
        header = file.read(int.from_bytes(prefix[8:], "little")).decode()
        values = array.array(letter, file.read())
    columns = int(re.search(r"(\d+),?\)", header)[1])
    return [values[start : start + columns] for start in range(0, len(values), columns)]


def norm(rows):
    return math.sqrt(math.fsum(value * value for row in rows for value in row))


def options_of(case):
    return [part for name, value in case["options"].items() for part in flag(name, value)]


print(f"{'loss':70}{'cost':>12} {'PyTorch':>12}{'difference':>12}{'of gradient':>12}")
for case in expected["cases"]:
    inputs = [part for role in case["inputs"] for part in (f"--{role}", f"{here}/{role}.npy")]
    found = run("evaluate", case["loss"], *inputs, *options_of(case), "--gradients", work)
    cost_error = abs(found["cost"] / case["cost"] - 1)
    gradient_error = 0
    for role, truth in case["gradients"].items():
        rows = load(f"{work}/{role}.npy")
        gradient_error = max(gradient_error, abs(norm(rows) / truth["norm"] - 1))
        for row, values in ({} if case["chooses"] else truth["rows"]).items():
            worst = max(abs(a - b) for a, b in zip(rows[int(row)], values, strict=True))
            gradient_error = max(gradient_error, worst / truth["largest"])
    for name, value in case["parameters"].items():
        gradient_error = max(gradient_error, abs(found[name] / value - 1))
    title = " ".join([case["loss"], "of", case["inputs"][0], *options_of(case)])
    print(f"{title:70}{found['cost']:12.6f} {case['cost']:12.6f}{cost_error:12.0e}{gradient_error:12.0e}")
    if not (cost_error < 1e-6 and gradient_error < 1e-5):
        sys.exit(f"{title}: differs from PyTorch")

files = [f"{here}/{name}.npy" for name in ("embeddings", "class-centers")]
run("distances", *files, "--output", f"{work}/distances.npy")
labels = [label for row in load(f"{here}/labels.npy", "B") for label in row]
nearest = [min(range(len(row)), key=row.__getitem__) for row in load(f"{work}/distances.npy")]
right = sum(a == b for a, b in zip(nearest, labels, strict=True)) / len(labels)
print(f"the nearest class center is the right one for {100 * right:.1f} % of {len(labels)} digits")
if right != expected["nearestCenterAccuracy"]:
    sys.exit(f"expected {expected['nearestCenterAccuracy']}")
PYTHON
