#!/usr/bin/env bash
# Builds and runs a package that depends on this one by URL and version, as a user's package does.
set -euo pipefail

root=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

git clone --quiet "$root" "$work/BatchLoss"
git -C "$work/BatchLoss" tag -f 1.0.0 >/dev/null
cp -r "$root/Tests/Client" "$work/client"
sed -i "s|BATCHLOSS_URL|file://$work/BatchLoss|" "$work/client/Package.swift"
swift run --package-path "$work/client" -c release client
