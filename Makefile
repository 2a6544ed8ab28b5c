# A thin layer over CMake presets and the scripts that do the work; `make help` lists the targets.
# The two that a newcomer needs, on a fresh Debian 12: `make demo` and `make test`.
PREFIX ?= /usr/local
.DEFAULT_GOAL := help
.PHONY: help demo test oracle build install bench fuzz format clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Fine-tune SmolLM2-135M over a real gRPC stream (MODEL= DATA= STEPS= CODEC= TARGET= OUT=)
	@deploy/demo.sh

test: ## Install what is needed, then run every check
	@tests/run.sh

oracle: ## Regenerate golden vectors with torch/transformers/peft and check live against them
	@deploy/setup.sh build test oracle
	@tests/oracle/oracle.sh

build: ## Release binaries in build/release/bin
	@deploy/setup.sh build
	cmake --preset release
	cmake --build --preset release

install: build ## Install the release build under PREFIX (default /usr/local), DESTDIR respected
	cmake --install build/release --prefix $(PREFIX)

bench: build ## Measure training speed against PyTorch and the GEMM rate (needs the oracle's packages)
	@deploy/setup.sh test bench oracle
	@tests/bench/bench.sh

fuzz: ## Run every fuzz target for SECONDS_EACH (default 60) seconds
	@deploy/setup.sh build test
	@tests/fuzz.sh $(or $(SECONDS_EACH),60)

format: ## Format all C sources with the pinned clang-format
	@git ls-files '*.c' '*.h' | xargs clang-format-14 -i

clean: ## Delete all build output (keeps virtual environments and the model cache)
	rm -rf build demo-run
