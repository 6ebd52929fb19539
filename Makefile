# Atrous: one word for each thing that people do. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
# torch for pip, e.g. TORCH=torch==2.13.0+cpu with PyTorch's index of CPU builds; empty: what pyproject.toml allows
TORCH ?=
TABLE ?= deeplabv3/table1
FIGURE ?= deeplabv3plus/figure5
SCALE ?= shapes
SEEDS ?= 1
ARGS ?=
# what make test measures of the whole suite, which fails below 90%
COVERAGE ?= $(if $(ARGS),,--cov --cov-report=term --cov-fail-under=90)
STORE ?= outputs
DATA ?= ../shared/data
SET ?= voc
# what make test-oracles installs, e.g. ORACLE_PACKAGES='torch==2.9.1 torchvision==0.24.1 timm tensorflow' for a known pair
ORACLE_PACKAGES ?= -r tests/oracles/requirements.txt
ORACLE_VENV ?= .venv-oracles
# where make bench puts torchvision, segmentation_models.pytorch and timm, apart from what trains
BENCH_VENV ?= .venv-bench

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ORACLE_STAMP := $(ORACLE_VENV)/.installed
DOCS_STAMP := $(VENV)/.docs
BENCH_STAMP := $(BENCH_VENV)/.installed
# every table and figure, in the order of their names
ALL_TABLES = $(patsubst experiments/%.yaml,%,$(sort $(wildcard experiments/*/*.yaml)))
seeds = range($(SEEDS))

# before anything is installed, and only where seeds are asked for
ifneq ($(filter reproduce-%,$(MAKECMDGOALS)),)
ifeq ($(shell printf '%s' '$(SEEDS)' | grep -xE '[1-9][0-9]*'),)
$(error SEEDS=$(SEEDS) must be a whole number of at least 1: how many seeds to train, e.g. SEEDS=3 for 0, 1 and 2)
endif
endif

.DEFAULT_GOAL := help
.PHONY: help setup train reproduce-table reproduce-figure reproduce-all completion docs plan report test test-all fuzz test-oracles lint format bench bench-data bench-infer bench-memory check-data wandb-sync wheel clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'
	@echo "  variables: TABLE=$(TABLE) FIGURE=$(FIGURE) SCALE=$(SCALE) SEEDS=$(SEEDS) ARGS= TORCH= PYTHON=$(PYTHON) VENV=$(VENV)"

setup: $(STAMP) ## make $(VENV) and install the project into it (TORCH=torch==X picks a build)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' || \
		{ echo "error: $(PYTHON) is not Python 3.10 to 3.13; give one as PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=24'
	$(if $(TORCH),$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(TORCH)')
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@# An oracle for the label table and the metrics; what it depends on by itself is not needed for that.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'cityscapesscripts>=2.2,<3'
	@touch $@

train: $(STAMP) ## one run: DeepLabv3+ on the built-in shapes (ARGS= for Hydra overrides)
	$(BIN)/atrous-train $(ARGS)

reproduce-table: $(STAMP) ## train what is missing of TABLE at SCALE with SEEDS seeds, print and write the table
	$(BIN)/atrous-train -m +experiment=$(TABLE) scale=$(SCALE) 'seed=$(seeds)' $(ARGS)

reproduce-figure: $(STAMP) ## train what is missing of FIGURE at SCALE, draw it beside its table (FIGURE=deeplabv3/figure4 trains nothing)
	$(BIN)/atrous-train -m +experiment=$(FIGURE) scale=$(SCALE) 'seed=$(seeds)' $(ARGS)

reproduce-all: $(STAMP) ## every table and figure at SCALE with SEEDS seeds, one after the other; run again, it goes on
	@failed=; for table in $(ALL_TABLES); do \
		echo "== $$table"; \
		$(BIN)/atrous-train -m +experiment=$$table scale=$(SCALE) 'seed=$(seeds)' $(ARGS); status=$$?; \
		case $$status in \
			0) ;; \
			129|130|143) exit $$status ;; \
			*) failed="$$failed $$table" ;; \
		esac; \
	done; \
	$(BIN)/atrous-report site $(ARGS); status=$$?; \
	if test -n "$$failed"; then echo "error: without a complete result:$$failed"; exit 1; fi; \
	exit $$status

completion: ## for bash: eval "$$(make -s completion)" completes targets, TABLE=, FIGURE= and SCALE=
	@cat Makefile.completion

plan: $(STAMP) ## every table of both papers: rows, trainings, GPU hours (SCALE=paper)
	$(BIN)/atrous-report plan scale=$(if $(filter file,$(origin SCALE)),paper,$(SCALE)) $(ARGS)

report: $(STAMP) ## one site under outputs/report: every table with anything measured, every run
	$(BIN)/atrous-report site $(ARGS)

# The suite starts some hundred processes, each of which would compile the sources again.
test: export PYTHONDONTWRITEBYTECODE =
test: $(STAMP) ## the whole suite, with branch coverage of src/ (COVERAGE= for none)
	$(BIN)/python -m pytest -n auto --dist loadfile $(COVERAGE) $(ARGS)

fuzz: $(STAMP) ## every property test with more than ten thousand cases in all
	$(BIN)/python -m pytest -m hypothesis --hypothesis-profile=fuzz $(ARGS)

test-all: $(STAMP) ## the suite and what it leaves out for time
	$(BIN)/python -m pytest -n auto --dist loadfile -m "" $(ARGS)

test-oracles: $(ORACLE_STAMP) ## compare live with torchvision, timm and TensorFlow, in $(ORACLE_VENV), which it makes
	ATROUS_ORACLES=required $(ORACLE_VENV)/bin/python -m pytest tests/oracles $(ARGS)

$(ORACLE_STAMP): pyproject.toml tests/oracles/requirements.txt
	test -x $(ORACLE_VENV)/bin/python || $(PYTHON) -m venv $(ORACLE_VENV)
	$(ORACLE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=24'
	@# In one call, so that versions are found which suit the oracles and the project; constraints.txt suits only the latter.
	$(ORACLE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(ORACLE_PACKAGES) -e '.[dev]'
	$(ORACLE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps 'cityscapesscripts>=2.2,<3'
	@touch $@

lint: $(STAMP) ## ruff, mypy --strict, secrets, known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@# A line that holds no secret and looks like one ends in: pragma: allowlist secret
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --no-verify --baseline .secrets.baseline
	$(BIN)/python .ci/audit.py

format: $(STAMP) ## let ruff format and mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(BENCH_STAMP) ## everything against its peers, into docs/benchmarks (DATA=folder with VOC; ARGS=--quick: in minutes, into outputs/benchmarks)
	ATROUS_BENCH_PEERS=$(BENCH_VENV) $(BIN)/python -m benchmarks --data '$(DATA)' $(ARGS)

$(BENCH_STAMP): $(STAMP)
	@# Beside $(VENV) and not in it: a torchvision of another build of torch would break what imports it when it is there.
	$(BIN)/python -m benchmarks.install_peers $(BENCH_VENV) && touch $@ || true

bench-data: $(STAMP) ## the loader's part of it
	ATROUS_BENCH_PEERS=$(BENCH_VENV) $(BIN)/python -m benchmarks.loader --root '$(DATA)'

bench-infer: $(STAMP) ## inference against plain PyTorch: speed, memory, share of the convolution peak
	ATROUS_BENCH_PEERS=$(BENCH_VENV) $(BIN)/python -m benchmarks.inference $(ARGS)

bench-memory: $(STAMP) ## memory of the loader's processes over 50 epochs
	$(BIN)/python -m benchmarks.loader_memory --root '$(DATA)'

check-data: $(STAMP) ## read every file of the data set SET in DATA, name every problem, write a report
	$(BIN)/atrous-data check $(SET) 'data.root=$(DATA)' $(ARGS)

wandb-sync: $(STAMP) ## say which offline W&B runs STORE holds, and send each once (ARGS=--dry-run only says)
	$(BIN)/python -m atrous.commands.wandb_sync '$(STORE)' $(ARGS)

docs: $(DOCS_STAMP) ## the site docs/_build/index.html from docs/; a warning is an error
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build
	@echo docs/_build/index.html

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@

wheel: $(STAMP) ## a wheel in dist/, with conf/ and experiments/ inside
	$(BIN)/python -m build --wheel

clean: ## remove environments, caches and builds; outputs/ stays
	rm -rf $(VENV) $(ORACLE_VENV) $(BENCH_VENV) build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -not -path './outputs/*' -prune -exec rm -rf {} +
