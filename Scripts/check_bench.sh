#!/usr/bin/env bash
# Runs every workload of bench at a small shape, and checks what it prints and what it says when it is called wrongly.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bench=${BENCH:-$root/.build/release/bench}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

small() {  # options that shrink a workload, from its default shape as bench list prints it
  local shape=${1%%,*} name
  [[ $shape == *=* ]] || shape="rows= columns="
  for name in $shape; do
    case ${name%%=*} in
      rows) echo "--rows 33" ;;
      columns) echo "--columns 17" ;;
      classes) echo "--classes 5" ;;
      time) echo "--time 40" ;;
      batch) echo "--batch 3" ;;
      labels) echo "--labels 8" ;;
    esac
  done
}

rows() {  # checks rows of JSON from standard input: how many, and their scalar
  python3 -c 'import json, math, sys
keys = "name shape scalar workers isa median_ms min_ms spread bytes flops limit_ms fraction_of_limit peak_rss_bytes cost"
rows = [json.loads(line) for line in sys.stdin]
assert len(rows) == int(sys.argv[1]), f"{len(rows)} rows"
for row in rows:
    assert sorted(row) == sorted(keys.split()), sorted(row)
    assert row["scalar"] == sys.argv[2] and math.isfinite(row["cost"]), row
    for key in ("median_ms", "min_ms", "bytes", "limit_ms", "fraction_of_limit", "peak_rss_bytes"):
        assert row[key] > 0, row' "$@"
}

# Workloads of the same dimensions in one run, because a run begins with measuring the machine.
declare -A groups=()
while read -r name shape; do
  options=$(small "$shape" | tr '\n' ' ')
  groups[$options]="${groups[$options]:-} $name"
done < <("$bench" list)
count=0
once=(--repeat 1 --warmup 0)
for options in "${!groups[@]}"; do
  # shellcheck disable=SC2086  # words on purpose, here and below
  set -- ${groups[$options]}
  "$bench" run "$@" $options "${once[@]}" --json 2>"$scratch/header" | rows $# float32
  "$bench" run "$@" $options --scalar float64 "${once[@]}" --json 2>/dev/null | rows $# float64
  count=$((count + $#))
done
expected=("processor" "instruction set" "OpenBLAS" "workers" "limits")
# An archive of the sources has no commit.
! git -C "$root" rev-parse --verify --quiet HEAD >/dev/null || expected+=("commit")
for name in "${expected[@]}"; do
  grep -q "^$name  *[^ ]" "$scratch/header" || { echo "bench run: the header has no '$name'"; exit 1; }
done

# Without names, every workload with such dimensions and forms.
"$bench" run --rows 33 --classes 5 --cost-only "${once[@]}" --json 2>/dev/null | rows 17 float32
"$bench" run --rows 33 --columns 17 --cost-only "${once[@]}" --json 2>/dev/null | rows 36 float32
"$bench" run --time 40 --batch 3 --classes 5 --labels 8 --cost-only "${once[@]}" --json 2>/dev/null | rows 1 float32
"$bench" run --in-place --rows 33 --columns 17 "${once[@]}" --json 2>/dev/null | rows 19 float32
in_place=(huber softmax-cross-entropy)
"$bench" run "${in_place[@]}" --in-place --rows 33 --columns 17 "${once[@]}" --json 2>/dev/null | rows 2 float32
# A row's memory is its own: 5 MiB of logits and gradient after 192 MiB of another loss.
"$bench" run huber softmax-cross-entropy-suite "${once[@]}" --json 2>/dev/null | python3 -c 'import json, sys
large, small, *_ = (json.loads(line)["peak_rss_bytes"] for line in sys.stdin)
assert small < 96 << 20 < large, (small, large)'
# Columns by the names that they have in products and in logits.
"$bench" run clip --rows 33 --depth 24 "${once[@]}" --json 2>/dev/null | rows 1 float32
"$bench" run softmax-cross-entropy --rows 33 --classes 10 "${once[@]}" --json 2>/dev/null | rows 1 float32
for level in $("$bench" levels); do
  "$bench" run huber --rows 33 --columns 17 --isa "$level" --workers 1 "${once[@]}" --json 2>/dev/null |
    grep -q "\"isa\":\"$level\".*\"workers\":1" || { echo "bench run: not on $level with one worker"; exit 1; }
done
# A bar on every row.
"$bench" run huber softmax-cross-entropy --rows 33 --columns 17 "${once[@]}" >"$scratch/table"
[ "$(grep -c '[█░]\{20\} *[0-9]*%$' "$scratch/table")" = 2 ] || { echo "bench run: no bars"; exit 1; }

"$bench" scale softmax-cross-entropy --rows 8 16 --columns 10 100 --worker-counts 1 2 "${once[@]}" >"$scratch/scale" 2>/dev/null
[ "$(cut -d, -f2,3,5 "$scratch/scale" | sort -u | wc -l)" = 9 ] || { echo "bench scale: not 8 rows"; exit 1; }
"$bench" scale ctc --time 20 30 --batch 2 --classes 5 --labels 4 "${once[@]}" --json 2>/dev/null | rows 2 float32

"$bench" limits --repeat 1 --json 2>/dev/null | python3 -c 'import json, sys
rates = [json.loads(line) for line in sys.stdin]
assert all(rate["rate"] > 0 for rate in rates), rates
places = {(rate["name"], rate["place"]) for rate in rates}
passes = {"read", "copy", "streamingCopy", "update"}
assert {(name, place) for name in passes for place in ("DRAM", "L3", "L2")} < places, places
assert sum(rate["name"] == "product" and rate["workers"] == 1 for rate in rates) > 2, rates'

mistakes=0
fails() {
  local output status=0
  output=$("$bench" "$@" 2>&1 >/dev/null) || status=$?
  if [ "$status" = 0 ] || [ "$status" -gt 128 ] || [ -z "$output" ] || [ "$(wc -l <<<"$output")" != 1 ]; then
    echo "bench $*: expected one line and a non-zero exit, got $status: $output"
    exit 1
  fi
  mistakes=$((mistakes + 1))
}
fails run no-such-workload
fails run huber --rows 0
fails run huber --time 3
fails run huber --rows 99999999999 --columns 99999999999
fails run huber --rows 20000000 --columns 10000000
fails run pairwise-distance --rows 4000000000 --columns 1
fails run huber --classes 10
fails run clip --depth 10 --columns 10
fails run huber --isa x86-64-v9
fails run huber --repeat 0
fails run huber --workers 0
fails run huber --cost-only --in-place
fails run kl-divergence --in-place
fails run pairwise-distance --cost-only
fails run --time 3 --rows 3
fails scale ctc --rows 8
fails scale huber --workers 1 --worker-counts 1 2
fails limits --repeat 0
echo "bench: $count workloads ran, $mistakes mistakes were refused"
