#!/usr/bin/env bash
# Checks that no kernel object carries weak code that other modules might end up running, and that the steps of loops
# are in the loops.
#
#   Scripts/check_kernel_objects.sh [CONFIGURATION] [BUILD_FOLDER]
#
# Kernels are compiled for instructions that a processor may lack. A weak function in their objects that does
# not belong to them (a specialisation of the standard library, say) may be the copy that the linker keeps for
# the whole program, and would then be run on processors without these instructions. The little that the
# compiler always leaves behind (metadata helpers, witness table accessors) is allowed as long as it consists of
# baseline instructions alone.
#
# A function within a function is the step of a loop. The compiler stops inlining where a function has too many
# branches, and a step that is left as a call keeps its sums in memory: a loop then takes twice the time and gives the
# same result, which no test notices.
set -euo pipefail

configuration=${1:-release}
build=${2:-"$(dirname "$0")/../.build"}/$configuration
if [ "$(uname -m)" != x86_64 ]; then
  echo "kernel objects: one instruction set on $(uname -m), nothing to check"
  exit 0
fi

# VEX and EVEX (v…, k…), BMI, LZCNT, MOVBE, and what else x86-64-v2 and v3 added without a prefix of their own.
beyond_baseline='^([vk].*|andn|bextr|blsi|blsmsk|blsr|bzhi|mulx|pdep|pext|rorx|sarx|shlx|shrx|tzcnt|lzcnt|movbe|popcnt|crc32.*|cmpxchg16b)$'
helper='^(__swift_instantiateConcreteTypeFromMangledName.*|\$s.*Wl)$'

# In a mangled name: length, name, and the mark of what is local to a function.
local_function='[0-9][a-z][A-Za-z0-9]*L[0-9]*_'

# The first instruction of a symbol that is not baseline, or nothing.
foreign_instruction() {
  objdump --disassemble="$2" --no-show-raw-insn --wide "$1" |
    awk -F'\t' -v pattern="$beyond_baseline" '
      NF >= 2 { split($2, words, " "); if (words[1] ~ pattern) { print words[1]; exit } }'
}

objects=0 symbols=0 failures=0
for module in BatchLossKernelsX86V3 BatchLossKernelsX86V4; do
  folder=$build/$module.build
  [ -d "$folder" ] || { echo "$folder: not built"; exit 1; }
  # A mangled name spells a module in full, or only what distinguishes it from "BatchLoss" before.
  own=${module#BatchLoss}
  while IFS= read -r object; do
    objects=$((objects + 1))
    while read -r symbol; do
      symbols=$((symbols + 1))
      if [[ ! $symbol =~ $helper ]]; then
        echo "$object: weak symbol $symbol comes from outside $module"
        failures=$((failures + 1))
      else
        instruction=$(foreign_instruction "$object" "$symbol")
        [ -z "$instruction" ] || {
          echo "$object: weak symbol $symbol uses $instruction, which baseline processors lack"
          failures=$((failures + 1))
        }
      fi
    done < <(nm --defined-only "$object" | awk -v own="$own" '$2 ~ /^[Ww]$/ && index($3, own) == 0 { print $3 }')
    while read -r symbol; do
      echo "$object: the step of a loop is a call, $symbol"
      failures=$((failures + 1))
    done < <(nm --defined-only "$object" | awk -v step="$local_function" '$3 ~ step { print $3 }')
  done < <(find -L "$folder" -name '*.o' | sort)
done

[ "$objects" -gt 0 ] || { echo "$build: no kernel objects found"; exit 1; }
[ "$failures" -eq 0 ] || exit 1
echo "kernel objects: $objects checked, $symbols weak helpers, all of baseline instructions; every local function is in its loop"
