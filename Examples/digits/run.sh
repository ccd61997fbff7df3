#!/usr/bin/env bash
# Evaluates the digits' logits with gradient and compares the cost with scikit-learn's.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
gradients=$(mktemp -d)
trap 'rm -rf "$gradients"' EXIT

arguments=(softmax-cross-entropy --logits "$here/logits.npy" --targets "$here/labels.npy" --gradients "$gradients")
"$root/.build/release/batch-loss" evaluate "${arguments[@]}"
"$root/.build/release/batch-loss" evaluate "${arguments[@]}" --json >"$gradients/result.json"
python3 - "$gradients/result.json" "$here/expected.json" <<'PYTHON'
import json
import sys

ours, expected = (json.load(open(path))["cost"] for path in sys.argv[1:])
difference = abs(ours - expected) / expected
print(f"{'scikit-learn':13}{expected} (relative difference {difference:.1e})")
if difference > 1e-6:
    sys.exit("the costs differ")
PYTHON
