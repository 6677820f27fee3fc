# Every target sets up what it needs: a virtual environment in .venv, from wheels locked by hash.
# The default is the newest supported Python that can create an environment.
PYTHON ?= $(shell for candidate in python3.14 python3.13 python3.12 python3.11 python3; do \
	$$candidate -c 'import ensurepip, venv' 2>/dev/null && command -v $$candidate && break; done)
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run
DEV := $(VENV)/.dev
ALONE := tests/cluster/test_controller.py tests/cluster/test_fan_out.py

.PHONY: demo test test-cluster check docs site workflows image sbom accuracy bench bench-methods bench-quick bench-estimates bench-daily model lock clean

demo: $(RUN) ## simulate a year, monitor ten dates, and write demo/report/index.html
	$(BIN)/acdtask demo demo

test: $(DEV) check ## run linters, type checks and all tests that this machine supports
	$(BIN)/pytest -n auto --dist worksteal $(PYTEST_ARGS)

test-cluster: $(DEV) ## test the chart and its workflows on the cluster of KUBECONFIG (requirements: CONTRIBUTING.md)
	ACD_REQUIRE=cluster $(BIN)/pytest -n $(or $(CLUSTER_WORKERS),4) --dist worksteal tests/cluster tests/helm/test_argo_lint.py $(ALONE:%=--ignore %)
	ACD_REQUIRE=cluster $(BIN)/pytest $(ALONE)

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(DEV) ## generate docs/reference from the code
	$(BIN)/python -m docs.build

site: $(DEV) ## build the documentation site into build/docs/site, and check every link
	$(BIN)/python -m docs.website

workflows: $(DEV) ## render the WorkflowTemplates into the chart
	$(BIN)/python -m workflows

image: ## build the image acd:VERSION with buildah, podman or docker (options: images/build)
	@images/build

accuracy: $(DEV) ## compare methods on simulated scenes, and write docs/accuracy.md
	$(BIN)/python -m benchmarks.accuracy

sbom: $(DEV) ## list the image's libraries with their hashes, as CycloneDX, in build/sbom.json
	$(BIN)/python -m images.sbom

bench: bench-quick bench-methods ## all comparisons of speed and memory

bench-methods: $(DEV) ## compare the cost of the methods robust and standard for one date
	$(BIN)/python -m benchmarks.method_cost

bench-quick: $(DEV) ## compare speed and memory with the tutorial's numpy code
	$(BIN)/python -m benchmarks.quick

bench-estimates: $(DEV) ## check the estimates of plans against the demo, within 30 %
	$(BIN)/python -m benchmarks.estimates

bench-daily: $(DEV) ## measure whether daily runs get slower or larger over DAYS days
	$(BIN)/python -m benchmarks.daily $(or $(DAYS),120)

model: $(DEV) ## fit the models that judge candidates, on simulated scenes (ARGS=--check or ARGS=--judge: see benchmarks/model.py)
	$(BIN)/python -m benchmarks.model $(ARGS)

lock: $(DEV) ## update the locked requirements
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra build --extra docs --extra dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -c requirements/dev.txt --extra build pyproject.toml -o requirements/run.txt

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "acd needs Python 3.11 or newer: make PYTHON=/path/to/python3.14"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUN): requirements/run.txt pyproject.toml hatch_build.py $(wildcard acdtask/cube/protocol/*.proto) | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/run.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): requirements/dev.txt $(RUN)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/dev.txt
	@touch $@

clean:
	rm -rf $(VENV) demo build dist
