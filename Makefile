# Development commands; `make` without a target lists them. PYTHON is any Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-long bench-families bench-extraction bench-sae bench-select bench-chat bench-scale bench-ray bench-streaming check-gpu studies lint format docs clean soak audit

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.ready ## set up, then measure a small real data set and fill its gaps (runs/demo)
	$(BIN)/fac run recipes/demo.toml

# Compiled modules are kept even where the environment forbids it: compiling is half of the start.
test: .venv/.ready ## set up, then run the tests: offline, on all cores
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --dist worksteal

test-slow: .venv/.ready ## run the slow tests, which use the real default model
	$(BIN)/python -m pytest -m "slow and not long" --timeout 1800

test-long: .venv/.ready ## run the slow tests that need minutes each, which CI leaves out
	$(BIN)/python -m pytest -m long --timeout 1800

bench-families: .venv/.ready ## train and extract with Gemma 3 270M and Qwen2.5-Coder-0.5B (one download of 700 MB)
	$(BIN)/python benchmarks/families.py

bench-extraction: .venv/.ready ## compare extraction with other tools and write the page (10 minutes)
	$(BIN)/python benchmarks/extraction.py --write

bench-sae: .venv/.ready ## compare SAE training with SAELens, on the same activations (8 minutes)
	$(BIN)/python benchmarks/sae_training.py --write

bench-select: .venv/.ready ## compare `fac select` with apricot-select and submodlib (8 minutes at most)
	$(BIN)/python benchmarks/select_samples.py --write

bench-chat: .venv/.ready ## compare the endpoint client with the bare OpenAI SDK on a mock server (1 minute)
	$(BIN)/python benchmarks/chat.py --write

bench-scale: .venv/.ready ## measure table commands up to a million samples, beside Polars and SciPy (20 minutes, 4 GB of disk)
	$(BIN)/python benchmarks/scale.py --write

bench-ray: .venv/.ready ## compare extraction on Ray with plain runs on the same cores (15 minutes)
	$(BIN)/python benchmarks/cluster.py --write

bench-streaming: .venv/.ready ## measure the memory of extraction against the number of samples, up to a million (15 minutes)
	$(BIN)/python benchmarks/streaming.py --write

check-gpu: .venv/.ready ## check and measure extraction on a machine with a GPU (under 8 minutes)
	$(BIN)/python scripts/check_gpu.py

studies: .venv/.ready ## rewrite the pages of all studies from their stored results
	$(BIN)/python studies/pages.py

SECONDS ?= 60
PARTS ?=
# Where the fuzzer has no wheel, its part says that it did not run.
soak: .venv/.ready ## kill, starve and lie to every stage (SECONDS=60 for each of PARTS), and write docs/reliability.md
	-$(BIN)/python -m pip install -q --no-deps atheris==3.0.0
	$(BIN)/python tests/soak --seconds $(SECONDS) --out docs/reliability.json $(PARTS)
	$(BIN)/python scripts/write_reliability.py

audit: .venv/.ready ## check licences, look up known weaknesses of all dependencies, and write sbom.json
	"$(PYTHON)" -m venv .venv/audit
	.venv/audit/bin/pip install -q pip-audit==2.10.1 cyclonedx-bom
	.venv/audit/bin/cyclonedx-py environment $(BIN)/python -o sbom.json
	$(BIN)/python scripts/audit.py .venv/audit/bin/pip-audit

lint: .venv/.ready ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: .venv/.ready ## build the documentation site, links checked (build/site/index.html)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

format: .venv/.ready ## fix style and format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

setup: .venv/.ready ## create .venv with the pinned development environment

.venv/.ready: pyproject.toml constraints.txt scripts/setup_env.py
	@command -v "$(PYTHON)" > /dev/null || \
		{ echo "Error: $(PYTHON) not found; install Python 3.11 or newer, or pass PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" scripts/setup_env.py

clean: ## remove .venv, build outputs and tool caches; keeps runs/
	rm -rf .venv build dist src/*.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find src tests scripts benchmarks studies -name __pycache__ -type d -prune -exec rm -rf {} +
