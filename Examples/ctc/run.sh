#!/usr/bin/env bash
# Evaluates lines of digits with gradient and compares the losses with PyTorch's.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
outputs=$(mktemp -d)
trap 'rm -rf "$outputs"' EXIT

arguments=(
  ctc --logits "$here/logits.npy" --targets "$here/targets.npy" --blank 10
  --input-lengths "$here/input-lengths.npy" --target-lengths "$here/target-lengths.npy"
  --losses "$outputs/losses.npy" --gradients "$outputs"
)
"$root/.build/release/batch-loss" evaluate "${arguments[@]}"
"$root/.build/release/batch-loss" evaluate "${arguments[@]}" --json >"$outputs/result.json"
python3 - "$outputs" "$here" <<'PYTHON'
import ast
import json
import struct
import sys


def floats(path):
    """The shape and elements of a float32 .npy file."""
    data = open(path, "rb").read()
    start = 10 + struct.unpack("<H", data[8:10])[0]
    header = ast.literal_eval(data[10:start].decode())
    assert header["descr"] == "<f4" and not header["fortran_order"], header
    return header["shape"], struct.unpack(f"<{(len(data) - start) // 4}f", data[start:])


outputs, here = sys.argv[1:]
expected = json.load(open(f"{here}/expected.json"))
cost = json.load(open(f"{outputs}/result.json"))["cost"]
shape, losses = floats(f"{outputs}/losses.npy")
assert shape == (len(expected["losses"]),), shape
difference = abs(cost - expected["cost"]) / expected["cost"]
worst = max(abs(a - b) / max(1, b) for a, b in zip(losses, expected["losses"], strict=True))
print(f"{'PyTorch':13}{expected['cost']} (relative difference {difference:.1e}; of a line at most {worst:.1e})")
if max(difference, worst) > 1e-6:
    sys.exit("the losses differ")

# The derivatives of a frame add up to 0; padded frames, which hold NaN, have none.
(lines, time, classes), gradient = floats(f"{outputs}/logits.npy")
_, logits = floats(f"{here}/logits.npy")
rows = range(0, lines * time * classes, classes)
assert max(abs(sum(gradient[row : row + classes])) for row in rows) < 1e-7
padding = [row for row in rows if logits[row] != logits[row]]
assert padding and not any(any(gradient[row : row + classes]) for row in padding)
PYTHON
