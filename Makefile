# Everything runs from a virtual environment that make sets up: on a fresh machine Python 3.11, a C++17 compiler and
# make are enough.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UPLOT := 1.6.32
STATIC := src/nearline/dashboard/static
SOURCES := pyproject.toml CMakeLists.txt $(wildcard src/nearline/*/*) $(wildcard src/nearline/*.py)

.DEFAULT_GOAL := help
.PHONY: help build demo test check bench docs soak vendor clean

help:  ## Show what there is to make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/.tools: requirements/dev.lock
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; run: make PYTHON=python3.x (3.11 or newer)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.lock
	@touch $@

$(STAMP): $(VENV)/.tools $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

build: $(STAMP)  ## Set up the virtual environment and compile the kernels

demo: $(STAMP)  ## Serve simulated visitors and learn from their clicks, for a minute
	$(BIN)/nearline demo --out demo

test: $(STAMP)  ## Run the tests (NEARLINE_DATA=DIR adds those on public data sets)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -q

check: $(STAMP)  ## Lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)  ## Measure beside other libraries, with NEARLINE_DATA=DIR on public data; writes benchmarks/results.*
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/bench.lock
	$(BIN)/python -m benchmarks.run

docs: $(STAMP)  ## Build the documentation into site/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/docs.lock
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir site

soak: $(STAMP)  ## Run the property tests for long, kill workers 200 times, watch memory and the server
	NEARLINE_HYPOTHESIS=soak OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -q -m hypothesis tests/posterior tests/kernels tests/batch tests/model tests/fixed
	NEARLINE_SOAK=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -s tests/stream/test_under_fire.py
	$(BIN)/python -m benchmarks.run --only memory --only serving

vendor:  ## Fetch the charting library of the dashboard again (needs npm)
	rm -rf build/vendor && mkdir -p build/vendor
	cd build/vendor && npm pack --silent uplot@$(UPLOT) && tar -xzf uplot-$(UPLOT).tgz
	cp build/vendor/package/dist/uPlot.iife.min.js build/vendor/package/dist/uPlot.min.css $(STATIC)
	cp build/vendor/package/LICENSE $(STATIC)/uPlot.LICENSE
	sha256sum $(STATIC)/uPlot*

clean:  ## Remove everything that make made
	rm -rf $(VENV) build site demo
