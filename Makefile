# Needs Python 3.11 or newer and make; everything else is installed into .venv, or VENV=FOLDER.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
ARGS ?=
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
CUDA := $(VENV)/installed-cuda

HUGGINGFACE := build/huggingface
AOT := build/aot

# Tests start hundreds of processes, and pytest rewrites each test file: both keep what they have compiled.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test bench lint gpu aot huggingface slurm chromium clean
.DEFAULT_GOAL := run

run: $(INSTALLED)  ## the same experiment on both frameworks, compared; ARGS="..." are overrides
	$(BIN)/python run.py -m backend=torch,jax model=cnn $(ARGS)

test: $(INSTALLED)  ## the test suite; ARGS='-m "not slow"' for the everyday part
	$(BIN)/python -m pytest $(ARGS)

bench: $(INSTALLED)  ## what is claimed about speed
	$(BIN)/python benchmarks/overhead.py $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/codespell
	$(BIN)/pyrefly check --summary=none

huggingface: $(HUGGINGFACE)/installed  ## tests with models of transformers: 4.53.3 is the last version with Flax
	$(BIN)/python -m pytest -n 0 tests/twins/test_verify_huggingface.py \
		tests/twins/test_published_weights.py $(ARGS)

$(HUGGINGFACE)/installed: $(INSTALLED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --target $(HUGGINGFACE) \
		"transformers==4.53.3" "tokenizers>=0.21,<0.22" "huggingface-hub<1" regex
	@touch $@

# Only where there is a GPU: it is told before anything is installed.
gpu: $(if $(wildcard /dev/nvidia[0-9]* /dev/dxg),$(CUDA),$(INSTALLED))  ## check and measure all that a GPU does otherwise, which backend is faster, too; writes benchmarks/gpu.md
	$(BIN)/python -m benchmarks.gpu $(ARGS)

$(CUDA): $(INSTALLED)  # JAX's CUDA build; torch brings its own
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable ".[dev,cuda]"
	@touch $@

aot: $(AOT)/installed  ## what JAX would run on H100s, compiled without one
	PYTHONPATH=$(AOT) $(BIN)/python -m pytest tests/aot $(ARGS)

# Of the version of jaxlib; torch brings NVIDIA's libraries.
$(AOT)/installed: $(INSTALLED)
	version=$$($(BIN)/python -c "import jaxlib; print(jaxlib.__version__)"); \
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --target $(AOT) \
		jax-cuda13-plugin==$$version jax-cuda13-pjrt==$$version
	@touch $@

slurm:  ## a Slurm of two nodes on this machine, for tests/cluster; needs root, and Debian to install it
	tests/cluster/slurm.sh start

chromium:  ## a browser for tests/browser; needs root, and Debian to install it
	tests/browser/chromium.sh

clean:
	rm -rf .venv .venv-* build *.egg-info

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	# Compiled once here, or every run would compile anew where Python may not write: 10 s each.
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable ".[dev]"
	@touch $@
