# Everything runs in .venv, which the first target that needs it creates. PYTHON selects the Python (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
VLLM_READY := .venv-vllm/.ready
PARALLEL := -n auto --maxprocesses 4 --dist worksteal
STOP_HANGS := -o faulthandler_exit_on_timeout=true -o faulthandler_timeout
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help install demo smoke check format test test-all vllm-env test-vllm bench bench-price bench-client bench-sweep bench-evaluation bench-vllm gpu-check results docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is required; run make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# vLLM pins its own torch and transformers, so it needs a separate environment. The removed packages are for images and
# audio and were built for other versions of torch.
$(VLLM_READY): requirements-vllm.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-vllm.txt
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

install: $(READY) ## create .venv with all dependencies

demo: $(READY) ## run the scaling study on fictional documents: raw, rephrase and EntiGraph, 8 to 16 minutes on two cores
	$(BIN)/entigraph run experiments=scaling/fictional

smoke: $(READY) ## run every stage with a few dozen steps, in under a minute
	$(BIN)/entigraph run experiments=smoke paths.root=outputs/smoke

check: $(READY) ## run the linter, the type checker and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=benchmarks $(BIN)/mypy --config-file= --ignore-missing-imports --follow-imports=silent --disable-error-code=arg-type benchmarks
	$(BIN)/lint-imports

format: $(READY) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(READY) ## run the tests, except slow ones
	$(BIN)/pytest -m "not slow and not vllm" $(PARALLEL) $(STOP_HANGS)=900

test-all: $(READY) ## run all tests, also slow ones and 10,000 inputs of every reader
	$(BIN)/pytest -m "not vllm" $(PARALLEL) $(STOP_HANGS)=3600
	$(BIN)/pytest -m vllm $(STOP_HANGS)=3600

vllm-env: $(VLLM_READY) ## create .venv-vllm: vLLM for CPUs, for llm=vllm, engine=vllm and their tests

test-vllm: $(READY) $(VLLM_READY) ## run the tests that start a real vLLM engine, on a CPU
	$(BIN)/pytest -m vllm --durations=0 -v

bench: $(READY) ## measure the throughput of the stages and the theory, and the coverage of the confidence bands
	$(BIN)/python benchmarks/documents.py
	$(BIN)/python benchmarks/converters.py
	$(BIN)/python benchmarks/stages.py
	$(BIN)/python benchmarks/tokens.py
	$(BIN)/python benchmarks/data_path.py
	$(BIN)/python benchmarks/theory.py
	$(BIN)/python benchmarks/bands.py
	$(BIN)/python benchmarks/train.py

bench-price: $(READY) ## compute the cost of a million synthetic tokens by request format
	$(BIN)/python benchmarks/price.py

bench-client: $(READY) ## compare the LLM client with the bare SDK and the paper's loop, 5 minutes
	$(BIN)/python benchmarks/client.py

bench-sweep: $(READY) ## measure the overhead of a sweep over training and evaluation, 4 minutes
	$(BIN)/python benchmarks/sweep.py

bench-evaluation: $(READY) ## compare 5-shot samples per second with transformers' generate; memory and load time of the report, 3 minutes
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/page.py

bench-vllm: $(READY) $(VLLM_READY) ## compare samples per second of engine=vllm with vLLM's LLM.generate, 10 minutes
	$(BIN)/python benchmarks/vllm_engine.py

gpu-check: $(READY) ## check the GPU code on one GPU, 4 minutes; make gpu-check ONLY=resume runs one check; needs no network
	$(BIN)/python benchmarks/gpu_check.py $(if $(ONLY),--only $(ONLY)) --json gpu-check.json

results: $(READY) ## update the published results of the demo in README.md from a finished study
	$(BIN)/entigraph analyze experiments=scaling/fictional | $(BIN)/python docs/results/embed.py

docs: $(READY) ## build the documentation site in .site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean: ## remove build products and caches, but not .venv, .venv-vllm and outputs/
	rm -rf build dist .site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -not -path './.venv*/*' -prune -exec rm -rf {} +
