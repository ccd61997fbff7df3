# The two commands to start with: make test, make demo.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PACKAGES := libopenblas-dev liblapacke-dev pkg-config make git binutils python3-venv
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 28

.PHONY: setup
setup: ## Install the Debian packages that are missing
	@missing=""; for package in $(PACKAGES); do \
	  dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
	  echo "installing$$missing"; \
	  $(SUDO) apt-get update -qq; \
	  DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq $$missing >/dev/null; \
	fi
	@command -v swift >/dev/null || { echo "swift is missing: install Swift 6.2 or later from https://swift.org/install"; exit 1; }

.PHONY: build
build: setup ## Build the library and both commands for release
	swift build -c release

# Kernels reach their speed only when they are optimised as a whole, so tests run on release builds.
.PHONY: test
test: setup ## Run every test, on every instruction set that this processor has
	swift build -c release --build-tests
	Scripts/check_kernel_objects.sh release
	swift test -c release --skip-build
	for level in $$(.build/release/bench levels | head -n -1); do \
	  echo "== $$level"; \
	  BATCHLOSS_ISA=$$level swift test -c release --skip-build --filter BatchLossTests; \
	done
# Products whose last bit depends on the place in a tile, which those of other processors do not show.
	if .build/release/bench levels | grep -x x86-64-v3 >/dev/null; then \
	  OPENBLAS_CORETYPE=Haswell swift test -c release --skip-build --filter DegenerateBatchTests; \
	fi
	$(MAKE) --no-print-directory check-losses check-commands
	Scripts/check_client.sh

.PHONY: check-commands
check-commands: setup ## Run the commands on small inputs: the demo, mistakes, and every benchmark once
	swift build -c release --product batch-loss
	swift build -c release --product bench
	Examples/digits/run.sh
	Examples/embeddings/run.sh
	Examples/ctc/run.sh
	Scripts/check_batch_loss.sh
	Scripts/check_bench.sh

.PHONY: demo
demo: setup ## Evaluate losses on handwritten digits and compare with scikit-learn and PyTorch
	swift build -c release --product batch-loss
	Examples/digits/run.sh
	Examples/embeddings/run.sh

.PHONY: check-losses
check-losses: setup ## Hold every loss against its definition in 80-bit arithmetic, on every instruction set
	swift build -c release --product BatchLossAccuracy
	swift build -c release --product bench
	for level in $$(.build/release/bench levels); do \
	  BATCHLOSS_ISA=$$level .build/release/BatchLossAccuracy losses; \
	done

.PHONY: check-elementary-functions
check-elementary-functions: setup ## Check exp, log and the others at every float there is (minutes)
	swift build -c release --product BatchLossAccuracy
	.build/release/BatchLossAccuracy functions

# torch.compile needs a compiler of C++.
compare compare-commits check-comparison: PACKAGES += g++

.PHONY: compare
compare: setup ## Measure against PyTorch and JAX (NAMES="huber ctc" for some); writes docs/benchmarks.md
	Benchmarks/setup.sh
	swift build -c release --product bench
	.venv/bin/python Benchmarks/compare.py $(NAMES)

.PHONY: check-comparison
check-comparison: setup ## Run every workload of the comparison once with every peer, at a tiny shape
	Benchmarks/setup.sh
	swift build -c release --product bench
	.venv/bin/python Benchmarks/compare.py --smoke

.PHONY: compare-commits
compare-commits: setup ## Measure the last commit against another (BASE=main NAMES="huber ctc")
	Benchmarks/setup.sh
	.venv/bin/python Benchmarks/compare_commits.py $(or $(BASE),$(error make compare-commits needs BASE=a commit)) HEAD $(NAMES)

.PHONY: lint
lint: ## Check the format of the Swift sources
	swift format lint --strict --recursive Package.swift Sources Tests

.PHONY: format
format: ## Format the Swift sources
	swift format --in-place --recursive Package.swift Sources Tests
