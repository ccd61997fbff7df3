#!/usr/bin/env bash
# Runs every workload of bench once at a small shape, and checks what it says when it is called wrongly.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bench=${BENCH:-$root/.build/release/bench}

small() {  # the options that shrink a workload, from its dimensions
  case "$1" in
    *=*) sed -E 's/,.*//; s/time=[0-9]+/--time 40/; s/([a-z]+)=[0-9]+/--\1 8/g' <<<"$1" ;;
    *) echo "--rows 33 --columns 17" ;;
  esac
}

count=0
while read -r name shape; do
  # shellcheck disable=SC2046
  "$bench" run "$name" $(small "$shape") --repeat 1 --warmup 0 --json |
    python3 -c 'import json, math, sys
for line in sys.stdin:
    row = json.loads(line)
    keys = "name shape scalar workers isa median_ms min_ms spread bytes flops limit_ms fraction_of_limit peak_rss_bytes cost"
    assert sorted(row) == sorted(keys.split()), sorted(row)
    assert math.isfinite(row["cost"]) and row["median_ms"] > 0, row'
  count=$((count + 1))
done < <("$bench" list)

"$bench" scale softmax-cross-entropy --rows 8 16 --columns 10 100 --repeat 1 --warmup 0 >/dev/null

fails() {
  local output status=0
  output=$("$bench" "$@" 2>&1 >/dev/null) || status=$?
  if [ "$status" = 0 ] || [ "$(wc -l <<<"$output")" != 1 ]; then
    echo "bench $*: expected one line and a non-zero exit, got $status: $output"
    exit 1
  fi
}
fails run no-such-workload
fails run huber --rows 0
fails run huber --time 3
fails run huber --isa x86-64-v9
fails run huber --repeat 0
echo "bench: $count workloads ran, 5 mistakes were refused"
