# Everything runs in .venv, which the first target that needs it makes. PYTHON names another Python (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
VLLM_READY := .venv-vllm/.ready
export TOKENIZERS_PARALLELIZM := false

.DEFAULT_GOAL := help
.PHONY: help install demo smoke check format test test-all vllm-env test-vllm bench bench-price bench-client bench-sweep bench-evaluation bench-vllm rivals clean

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# vLLM pins its own torch and transformers, so it has an environment of its own. What it asks for beside torch is for
# pictures and sound, and built for other versions of torch.
$(VLLM_READY): requirements-vllm.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-vllm.txt
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

install: $(READY) ## set up .venv with everything in it

demo: $(READY) ## the scaling study on a laptop: raw, rephrase and EntiGraph, 8 minutes on two cores
	$(BIN)/entigraph experiments=scaling/fictional

smoke: $(READY) ## every stage with a few dozen steps: proves the plumbing, in under a minute
	$(BIN)/entigraph experiments=smoke paths.root=outputs/smoke

check: $(READY) ## style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(READY) ## the tests, without the slow ones
	$(BIN)/pytest -m "not slow and not vllm" -n auto --maxprocesses 4 --dist worksteal

test-all: $(READY) ## all tests
	$(BIN)/pytest

vllm-env: $(VLLM_READY) ## set up .venv-vllm: vLLM for CPUs, for llm=vllm, engine=vllm and their tests

test-vllm: $(READY) $(VLLM_READY) ## the tests of a real vLLM engine, on a CPU
	$(BIN)/pytest -m vllm --durations=0 -v

bench: $(READY) ## how long the stages take, in tokens a second, and the theory; how often bands hold
	$(BIN)/python benchmarks/stages.py
	$(BIN)/python benchmarks/tokens.py
	$(BIN)/python benchmarks/data_path.py
	$(BIN)/python benchmarks/theory.py
	$(BIN)/python benchmarks/bands.py
	$(BIN)/python benchmarks/train.py

bench-price: $(READY) ## what a million synthetic tokens cost, by the way of asking
	$(BIN)/python benchmarks/price.py

bench-client: $(READY) ## the writer client beside the bare SDK, curator (make rivals) and the paper's loop, 5 minutes
	$(BIN)/python benchmarks/client.py

bench-sweep: $(READY) ## what a sweep costs beyond its training and evaluation, 4 minutes
	$(BIN)/python benchmarks/sweep.py

bench-evaluation: $(READY) ## samples of 5-shot prompts a second, beside transformers' generate; memory; how fast the page opens, 3 minutes
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/page.py

bench-vllm: $(READY) $(VLLM_READY) ## samples a second of engine=vllm, beside vLLM's own LLM.generate, 10 minutes
	$(BIN)/python benchmarks/vllm_engine.py

rivals: .rivals/.ready ## set up .rivals: what the benchmarks compare with and nothing else needs

.rivals/.ready: Makefile
	$(PYTHON) -m venv .rivals
	.rivals/bin/python -m pip install --quiet --disable-pip-version-check bespokelabs-curator==0.1.31
	@touch $@

clean: ## remove what was built here, .venv, .venv-vllm, .rivals and outputs/ excepted
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -not -path './.venv*/*' -not -path './.rivals/*' -prune -exec rm -rf {} +
