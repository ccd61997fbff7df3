#!/usr/bin/env bash
# Calls batch-loss wrongly and rightly, and checks exit codes, messages and what is left on disk.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
tool=$root/.build/release/batch-loss
digits=$root/Examples/digits
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fails() {
  local output status=0
  output=$("$tool" "$@" --losses "$work/losses.npy" --gradients "$work/gradients" 2>&1 >/dev/null) || status=$?
  if [ "$status" = 0 ] || [ "$(wc -l <<<"$output")" != 1 ] || [ -n "$(ls -A "$work")" ]; then
    echo "batch-loss $*: expected one line, a non-zero exit and no files, got $status: $output $(ls -A "$work")"
    exit 1
  fi
}
fails evaluate no-such-loss
fails evaluate huber --predictions "$digits/logits.npy"
fails evaluate huber --predictions "$digits/logits.npy" --targets "$digits/labels.npy"
fails evaluate huber --predictions "$digits/logits.npy" --targets "$digits/logits.npy" --delta -1
fails evaluate huber --predictions "$digits/logits.npy" --targets "$digits/logits.npy" --beta 1
fails evaluate huber --predictions "$digits/README.md" --targets "$digits/logits.npy"
fails evaluate huber --predictions "$work/none.npy" --targets "$digits/logits.npy"
fails evaluate binary-cross-entropy --probabilities "$digits/logits.npy" --targets "$digits/logits.npy"
fails evaluate softmax-cross-entropy --logits "$digits/logits.npy" --targets "$digits/labels.npy" --workers 0
fails evaluate softmax-cross-entropy --logits "$digits/labels.npy" --targets "$digits/labels.npy"
lines=$root/Examples/ctc
fails evaluate ctc --logits "$lines/logits.npy" --log-probabilities "$lines/logits.npy" --targets "$lines/targets.npy"
fails evaluate ctc --logits "$lines/logits.npy" --targets "$lines/targets.npy" --blank 11
BATCHLOSS_ISA=sse9 fails evaluate huber --predictions "$digits/logits.npy" --targets "$digits/logits.npy"

"$tool" list >/dev/null
"$tool" evaluate softmax-cross-entropy --logits "$digits/logits.npy" --targets "$digits/labels.npy" \
  --losses "$work/losses.npy" --gradients "$work/gradients" --label-smoothing 0.1 --json |
  python3 -c 'import json, sys
row = json.loads(sys.stdin.read())
for key in "loss rows columns reduction cost sum denominator seconds workers instructionSet".split():
    assert key in row, key
assert row["rows"] == 1797 and row["columns"] == 10 and row["denominator"] == 1797, row'
[ -s "$work/losses.npy" ] && [ -s "$work/gradients/logits.npy" ]
echo "batch-loss: 13 mistakes were refused, outputs were written"
