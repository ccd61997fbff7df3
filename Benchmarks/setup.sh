#!/bin/sh
# Makes the virtual environment of the peers, .venv at the root of the repository, and fills it. Safe to repeat.
set -eu
cd "$(dirname "$0")/.."
wanted=Benchmarks/requirements.txt
done_mark=.venv/benchmarks-installed
cmp -s "$wanted" "$done_mark" && .venv/bin/python -c 'import numpy' 2>/dev/null && exit 0

fail() {
  echo "Benchmarks/setup.sh: $1" >&2
  exit 1
}
command -v python3 >/dev/null || fail "python3 is missing (apt-get install python3 python3-venv)"
command -v c++ >/dev/null || fail "a C++ compiler is missing, which torch.compile needs (apt-get install g++)"
# One that was interrupted, or whose Python was replaced, is made anew.
.venv/bin/python -m pip --version >/dev/null 2>&1 || python3 -m venv --clear .venv >/dev/null 2>&1 ||
  fail "cannot make .venv (apt-get install python3-venv)"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "installing PyTorch, JAX and the other peers into .venv" >&2
# PyPI's wheel of PyTorch brings CUDA; PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu spares the gigabytes.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --retries 1 -r "$wanted" >"$log" 2>&1 || {
  if grep -qiE 'connection|name resolution|network is unreachable|timed out|from versions: none' "$log"; then
    fail "PyPI cannot be reached; the comparison needs the network once, to install $wanted"
  fi
  fail "pip failed: $(grep -i error "$log" | tail -n 1)"
}
cp "$wanted" "$done_mark"
