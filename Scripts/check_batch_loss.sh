#!/usr/bin/env bash
# Calls batch-loss wrongly, and rightly once for each loss; checks exit codes, messages and what is left on disk.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
tool=$root/.build/release/batch-loss
digits=$root/Examples/digits
real=$root/Examples/embeddings
work=$(mktemp -d)
made=$(mktemp -d)
trap 'rm -rf "$work" "$made"' EXIT

# Inputs that the examples lack: coins as many as the digits' logits, and 6 utterances of 4 frames and 10 classes.
python3 - "$digits/logits.npy" "$made" <<'PYTHON'
import math
import struct
import sys

source, folder = sys.argv[1:]


def write(name, kind, shape, data):
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    with open(f"{folder}/{name}.npy", "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data)


logits = open(source, "rb").read()[-1797 * 10 * 4 :]
coins = b"".join((b"\0\0\x80\x3f", b"\0\0\0\0")[i * i % 7 % 2] for i in range(17970))
write("coins", "<f4", (1797, 10), coins)
write("signs", "<f4", (1797, 10), coins.replace(b"\0\0\0\0", b"\0\0\x80\xbf"))
write("probabilities", "<f4", (1797, 10), b"\0\0\x80\x3e" * 17970)
write("log-probabilities", "<f4", (1797, 10), b"\0\0\x80\xbf" * 17970)
write("utterances", "<f4", (6, 4, 10), logits[: 6 * 4 * 10 * 4])
write("words", "|u1", (6, 2), bytes(range(1, 7)) * 2)
# The same utterances in other forms: frames first, as log-probabilities, without the last frame; words of different
# length, padded with a 0 that is not read and without it.
frames = [struct.unpack("<10f", logits[i * 40 : i * 40 + 40]) for i in range(24)]


def write_frames(name, shape, frames):
    write(name, "<f4", (*shape, 10), b"".join(struct.pack("<10f", *frame) for frame in frames))


def log_softmax(frame):
    normalizer = math.log(sum(math.exp(x - max(frame)) for x in frame)) + max(frame)
    return [x - normalizer for x in frame]


write_frames("time-major", (4, 6), [frames[u * 4 + t] for t in range(4) for u in range(6)])
write_frames("normalized", (6, 4), map(log_softmax, frames))
write_frames("shorter", (6, 3), [frames[u * 4 + t] for u in range(6) for t in range(3)])
write("three-frames", "|u1", (6,), bytes([3] * 6))
words = [[1, 2], [3], [5, 6], [], [3, 4], [5]]
write("padded-words", "|u1", (6, 2), b"".join(bytes((word + [0, 0])[:2]) for word in words))
write("joined-words", "|u1", (8,), bytes(sum(words, [])))
write("word-lengths", "<i8", (6,), struct.pack("<6q", *map(len, words)))
write("long-words", "|u1", (6, 3), bytes([1, 1, 1, 1, 2, 3] * 3))
write("wrong-words", "|u1", (6, 2), bytes([1, 2] * 5 + [1, 10]))
write("blank-words", "|u1", (6, 2), bytes([1, 2] * 3 + [1, 0] + [1, 2] * 2))
write("long-lengths", "<i8", (6,), struct.pack("<6q", 2, 2, 2, 5, 2, 2))
write("negative-lengths", "<i8", (6,), struct.pack("<6q", 2, 2, 2, 2, -1, 2))
write("twos", "<f4", (6,), struct.pack("<6f", *[2] * 6))
write("odd-ones", "<f4", (6,), struct.pack("<6f", *[0, 1] * 3))
write("fewer-centers", "<f4", (5, 16), b"\0\0\x80\x3f" * 80)

# Pairs, and too many for one part: 65636 rows that repeat 100.
for place, name in enumerate(("first", "second")):
    rows = struct.pack("<25600e", *((i * (i + place) * 7 % 101 - 50) / 400 for i in range(25600)))
    write(name, "<f2", (100, 256), rows)
    write("many-" + name, "<f2", (65636, 256), rows * 656 + rows[: 36 * 512])
same = bytes(i * i % 7 % 2 for i in range(100))
write("same", "|u1", (100,), same)
write("many-same", "|u1", (65636,), same * 656 + same[:36])
signs = struct.pack("<100f", *[1, -1] * 50)
write("signs-of-rows", "<f4", (100,), signs)
write("many-signs-of-rows", "<f4", (65636,), signs * 656 + signs[:144])
PYTHON

mistakes=0
refused() {  # one line, a non-zero exit and no files
  local output status=0
  output=$("$tool" "$@" 2>&1 >/dev/null) || status=$?
  if [ "$status" = 0 ] || [ "$(wc -l <<<"$output")" != 1 ] || [ -n "$(ls -A "$work")" ]; then
    echo "batch-loss $*: expected one line, a non-zero exit and no files, got $status: $output $(ls -A "$work")"
    exit 1
  fi
  mistakes=$((mistakes + 1))
  message=$output
}
fails() { refused evaluate "$@" --losses "$work/losses.npy" --gradients "$work/gradients"; }
says() { [[ $message == *"$1"* ]] || { echo "expected '$1' in: $message"; exit 1; }; }

batch=(--embeddings "$real/embeddings.npy" --labels "$real/labels.npy")
pairs=(--first "$real/first.npy" --second "$real/second.npy" --same "$real/same.npy")
triplets=(--anchors "$real/anchors.npy" --positives "$real/positives.npy" --negatives "$real/negatives.npy")
views=(--queries "$real/queries.npy" --keys "$real/keys.npy")
centers=(--class-centers "$real/class-centers.npy")
numbers=(--predictions "$digits/logits.npy" --targets "$made/coins.npy")

fails no-such-loss
fails huber --predictions "$digits/logits.npy"
fails huber --predictions "$digits/logits.npy" --targets "$digits/labels.npy"
fails huber "${numbers[@]}" --delta -1
fails huber "${numbers[@]}" --beta 1
fails huber "${numbers[@]}" --margin 1
fails huber --predictions "$digits/README.md" --targets "$digits/logits.npy"
fails huber --predictions "$work/none.npy" --targets "$digits/logits.npy"
fails binary-cross-entropy --probabilities "$digits/logits.npy" --targets "$digits/logits.npy"
fails softmax-cross-entropy --logits "$digits/logits.npy" --targets "$digits/labels.npy" --workers 0
fails softmax-cross-entropy --logits "$digits/labels.npy" --targets "$digits/labels.npy"
BATCHLOSS_ISA=sse9 fails huber "${numbers[@]}"

fails contrastive && says "--embeddings"
fails contrastive --first "$real/embeddings.npy" "${batch[@]}" && says "got both"
fails contrastive "${pairs[@]:0:4}" && says "same"
fails contrastive "${batch[@]:0:2}" && says "labels"
fails contrastive "${pairs[@]:0:4}" --same "$real/labels.npy" && says "same: expected 256 rows"
fails contrastive --first "$real/embeddings.npy" --second "$real/embeddings.npy" --same "$real/labels.npy" && says "0 or 1"
fails contrastive "${pairs[@]}" --positive-margin 1 && says "positiveMargin"
fails triplet "${batch[@]}" && says "mining"
fails triplet "${batch[@]}" --mining hardest && says "batch-semi-hard"
fails triplet "${triplets[@]}" --mining batch-all && says "mining"
fails triplet "${batch[@]}" --mining batch-all --swap && says "swap"
fails triplet "${triplets[@]}" --distance manhattan && says "squared-euclidean"
fails triplet "${triplets[@]}" --smooth --squared && says "smooth"
fails info-nce "${views[@]}" --temperature 0 && says "temperature"
fails info-nce --queries "$real/embeddings.npy" --keys "$real/keys.npy" && says "keys: expected at least 1797"
fails clip --queries "$real/queries.npy" --keys "$digits/logits.npy" && says "keys: expected 256 rows"
fails siglip --queries "$real/embeddings.npy" --keys "$digits/logits.npy" && says "keys: expected 1797×16"
fails arc-face "${batch[@]}" --class-centers "$made/fewer-centers.npy" && says "labels: expected a class from 0 to 4"
fails cos-face "${batch[@]}" "${centers[@]}" --margin=-1 && says "margin"
fails supervised-contrastive --embeddings "$real/embeddings.npy" && says "needs --labels"

lines=$root/Examples/ctc
fails ctc --logits "$lines/logits.npy" --log-probabilities "$lines/logits.npy" --targets "$lines/targets.npy"
fails ctc --logits "$lines/logits.npy" --targets "$lines/targets.npy" --blank 11 && says "blank"
fails ctc --logits "$made/utterances.npy" --targets "$made/wrong-words.npy" && says "of utterance 5" && says "got 10"
fails ctc --logits "$made/utterances.npy" --targets "$made/blank-words.npy" && says "of utterance 3"
for lengths in input-lengths target-lengths; do
  fails ctc --logits "$made/utterances.npy" --targets "$made/words.npy" "--$lengths" "$made/long-lengths.npy"
  says "utterance 3"
  fails ctc --logits "$made/utterances.npy" --targets "$made/words.npy" "--$lengths" "$made/negative-lengths.npy"
  says "utterance 4"
done
fails ctc --logits "$made/utterances.npy" --targets "$made/words.npy" --weights "$digits/labels.npy" && says "weights"
fails ctc --logits "$made/utterances.npy" --targets "$made/joined-words.npy" && says "target-lengths"

matrix=("$real/embeddings.npy" --output "$work/distances.npy")
refused distances "${matrix[@]}" --distance manhattan && says "squared-euclidean"
refused distances "${matrix[@]:0:1}" && says "--output"
refused distances "${matrix[0]}" "$digits/logits.npy" "${matrix[@]:1}" && says "second: expected 1797×16"
refused distances "$real/labels.npy" "${matrix[@]:1}" && says "first: expected two dimensions"
refused distances "${matrix[0]}" --output "$work/none/distances.npy" && says "cannot create"
refused distances "${matrix[0]}" --output "$work/distances.txt" && says ".npy"
refused distances "${matrix[@]}" --workers 0 && says "workerCount"

# Every loss once: a finite cost, a loss for each sample, and a gradient of each input that has one.
declare -A inputs=(
  [contrastive]="${pairs[*]}" [cosine-embedding]="${pairs[*]}" [triplet]="${triplets[*]}" [info-nce]="${views[*]}"
  [clip]="${views[*]}" [siglip]="${views[*]}" [n-pairs]="${triplets[*]:0:4}" [multi-similarity]="${batch[*]}"
  [supervised-contrastive]="${batch[*]}" [arc-face]="${batch[*]} ${centers[*]}" [cos-face]="${batch[*]} ${centers[*]}"
  [binary-cross-entropy]="--logits $digits/logits.npy --targets $made/coins.npy"
  [focal]="--logits $digits/logits.npy --targets $made/coins.npy"
  [hinge]="--predictions $digits/logits.npy --targets $made/signs.npy"
  [squared-hinge]="--predictions $digits/logits.npy --targets $made/signs.npy"
  [poisson]="--predictions $made/coins.npy --targets $made/coins.npy"
  [softmax-cross-entropy]="--logits $digits/logits.npy --targets $digits/labels.npy"
  [kl-divergence]="--logits $digits/logits.npy --targets $made/probabilities.npy"
  [ctc]="--logits $made/utterances.npy --targets $made/words.npy"
)
evaluated() {  # a loss with options; then the names of the gradients that must be there
  local options=$1 names=$2 base
  read -ra words <<<"$options"
  "$tool" evaluate "${words[@]}" --losses "$work/losses.npy" --gradients "$work/gradients" --json |
    python3 -c 'import json, math, sys
row = json.loads(sys.stdin.read())
for key in "loss rows columns reduction cost sum denominator seconds workers instructionSet scalar".split():
    assert key in row, key
assert math.isfinite(row["cost"]) and row["cost"] > 0 and row["denominator"] > 0, row
for key in sys.argv[2:]:
    assert math.isfinite(row[key]), (key, row)' "$options" "${@:3}"
  base=$(cd "$work/gradients" && echo *)
  [ "$base" = "$names" ] && [ -s "$work/losses.npy" ] || { echo "batch-loss $options: wrote $base, not $names"; exit 1; }
  rm -r "$work/gradients" "$work/losses.npy"
}
count=0
for loss in $("$tool" list | grep -E '^[a-z]'); do
  given=${inputs[$loss]:-${numbers[*]}}
  names=""
  # Those of the listed inputs with a star that are given.
  for role in $("$tool" list | sed -n "/^$loss\$/,/^\$/s/^  inputs  *//p" | tr -d '[]'); do
    [[ $role == *\* && " $given " == *" ${role%\*} "* ]] && names+=" ${role#--}"
  done
  names=$(tr ' ' '\n' <<<"$names" | sed -n 's/\*$/.npy/p' | sort | tr '\n' ' ')
  evaluated "$loss $given" "${names% }"
  count=$((count + 1))
done

# The other forms, and what they report beside the cost.
for mining in batch-hard batch-semi-hard batch-all; do
  for distance in euclidean squared-euclidean cosine; do
    evaluated "triplet ${batch[*]} --mining $mining --distance $distance" embeddings.npy valid active
  done
done
evaluated "contrastive ${batch[*]} --linear --positive-margin 0.5" embeddings.npy valid active
evaluated "info-nce ${batch[*]}" embeddings.npy valid temperatureGradient
evaluated "info-nce --queries $real/queries.npy --keys $real/embeddings.npy" "keys.npy queries.npy" temperatureGradient
evaluated "clip ${views[*]} --no-normalization" "keys.npy queries.npy" temperatureGradient
evaluated "siglip ${views[*]} --scale 5 --bias=-3" "keys.npy queries.npy" scaleGradient biasGradient
evaluated "n-pairs ${triplets[*]:0:4} --regularization 0.1" "anchors.npy positives.npy" valid
evaluated "binary-cross-entropy --probabilities $made/probabilities.npy --targets $made/coins.npy" probabilities.npy
evaluated "kl-divergence --log-probabilities $made/log-probabilities.npy --target-logits $digits/logits.npy" \
  "log-probabilities.npy target-logits.npy"
evaluated "softmax-cross-entropy --logits $digits/logits.npy --targets $digits/labels.npy --label-smoothing 0.1" logits.npy

# Pairs in two parts give what the rows that they repeat give.
for size in "" many-; do
  "$tool" evaluate contrastive --first "$made/${size}first.npy" --second "$made/${size}second.npy" \
    --same "$made/${size}same.npy" --reduction sum --gradients "$made/${size}gradients" \
    --losses "$made/${size}losses.npy" --json >"$made/${size}row.json"
done
python3 - "$made" <<'PYTHON'
import json
import sys

folder = sys.argv[1]
few, many = (json.load(open(f"{folder}/{size}row.json")) for size in ("", "many-"))
assert (few["valid"], many["valid"], many["denominator"]) == (100, 65636, 1), (few, many)
assert 0 < few["active"] and 656 * few["active"] <= many["active"] <= 657 * few["active"], (few, many)
for name, width in (("losses", 4), ("gradients/first", 1024), ("gradients/second", 1024)):
    row, rows = (open(f"{folder}/{size}{name}.npy", "rb").read()[128:] for size in ("", "many-"))
    assert rows == row * 656 + row[: 36 * width], name
assert 656 * few["sum"] < many["sum"] < 657 * few["sum"], (few, many)
PYTHON

# Weights that cancel: no denominator and no gradient, but the losses that there are.
for size in "" many-; do
  "$tool" evaluate contrastive --first "$made/${size}first.npy" --second "$made/${size}second.npy" \
    --same "$made/${size}same.npy" --weights "$made/${size}signs-of-rows.npy" --gradients "$made/${size}gradients" \
    --losses "$made/${size}losses.npy" --json >"$made/${size}row.json"
done
python3 - "$made" <<'PYTHON'
import json
import sys

folder = sys.argv[1]
row, rows = (open(f"{folder}/{size}losses.npy", "rb").read()[128:] for size in ("", "many-"))
assert any(row) and rows == row * 656 + row[:144]
for size in ("", "many-"):
    assert json.load(open(f"{folder}/{size}row.json"))["denominator"] == 0
    assert not any(open(f"{folder}/{size}gradients/first.npy", "rb").read()[128:])
PYTHON

number() {  # one number of what a loss with options reports
  "$tool" evaluate "${@:2}" --json | python3 -c 'import json, sys
print(float(json.loads(sys.stdin.read())[sys.argv[1]]))' "$1"
}
close() {  # two numbers, the second times a factor
  python3 -c 'import sys
value, expected, factor = map(float, sys.argv[1:])
assert value == expected * factor or abs(value / (expected * factor) - 1) < 1e-6, sys.argv[1:]' "$1" "$2" "${3:-1}"
}
spoken=(ctc --logits "$made/utterances.npy") # 6 utterances of 4 frames
plain=$(number cost "${spoken[@]}" --targets "$made/words.npy")
close "$(number cost ctc --logits "$made/time-major.npy" --time-major --targets "$made/words.npy")" "$plain"
close "$(number cost ctc --log-probabilities "$made/normalized.npy" --targets "$made/words.npy")" "$plain"
close "$(number cost "${spoken[@]}" --targets "$made/words.npy" --input-lengths "$made/three-frames.npy")" \
  "$(number cost ctc --logits "$made/shorter.npy" --targets "$made/words.npy")"
lengths=(--target-lengths "$made/word-lengths.npy")
close "$(number cost "${spoken[@]}" --targets "$made/joined-words.npy" "${lengths[@]}")" \
  "$(number cost "${spoken[@]}" --targets "$made/padded-words.npy" "${lengths[@]}")"
# Weights: of two each, and of every second utterance, whose words need more frames than there are.
close "$(number sum "${spoken[@]}" --targets "$made/words.npy" --weights "$made/twos.npy")" "$plain" 12
long=("${spoken[@]}" --targets "$made/long-words.npy")
close "$(number infeasible "${spoken[@]}" --targets "$made/words.npy")" 0
close "$(number infeasible "${long[@]}")" 3
close "$(number cost "${long[@]}")" inf
close "$(number cost "${long[@]}" --weights "$made/odd-ones.npy")" "$(number cost "${long[@]}" --zero-infinity)" 2
evaluated "ctc --log-probabilities $made/normalized.npy --targets $made/words.npy" log-probabilities.npy infeasible
evaluated "${long[*]} --zero-infinity --weights $made/twos.npy" logits.npy infeasible

"$tool" distances "${matrix[@]}" --json | python3 -c 'import json, sys
row = json.loads(sys.stdin.read())
assert (row["rows"], row["others"], row["columns"]) == (1797, 1797, 16), row'
[ "$(stat -c %s "$work/distances.npy")" = $((128 + 1797 * 1797 * 4)) ]
rm "$work/distances.npy"
[ -z "$(ls -A "$work")" ]
echo "batch-loss: $mistakes mistakes were refused, $count losses were evaluated"
