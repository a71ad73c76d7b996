# make demo | test | check, from a fresh clone with nothing installed but Python >= 3.11 and pip
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do command -v $$p >/dev/null && \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1

.PHONY: demo demo-short demo-multimodal demo-vision demo-tasks notebooks test slow trainers crash check format clean

demo: $(VENV)/.ready ## real text -> sweep -> laws -> recommended mixture -> sealed forecast -> proof -> report
	$(BIN)/python -m scripts.demo

demo-short: $(VENV)/.ready ## the same road with fewer and shorter runs
	$(BIN)/python -m scripts.demo short

demo-multimodal: $(VENV)/.ready ## the same road for early fusion of real images and text
	$(BIN)/python -m scripts.demo multimodal_short

demo-vision: $(VENV)/.ready ## the same road for captioned images
	$(BIN)/python -m scripts.demo vision_short

demo-tasks: $(VENV)/.ready ## benchmarks as targets: bits per byte of real tasks -> sweep -> laws -> recommended mixture
	$(BIN)/python -m data.prepare data=quickstart_tasks
	$(BIN)/python -m train study=tasks
	$(BIN)/mixlaw fit runs/tasks --out runs/tasks/laws.json
	$(BIN)/mixlaw recommend runs/tasks/laws.json --n-params 500e3 --n-tokens 360e3 --target reasoning

notebooks: $(VENV)/.ready ## executes scripts/notebooks again, in place
	$(BIN)/jupyter execute --inplace scripts/notebooks/*.ipynb

test: $(VENV)/.ready ## the fast tests: one case of a kind, in a few minutes
	$(BIN)/python -m pytest -n auto --dist worksteal

slow: $(VENV)/.ready ## what the fast tests leave out: long searches, many processes, whole repeats, more examples of properties
	$(BIN)/python -m pytest -n auto --dist worksteal -m "(slow or hypothesis) and not crash and not slurm" --hypothesis-profile thorough

trainers: $(VENV)/trainers ## exported mixtures and token files, with the libraries of the trainers
	PYTHONPATH=$(VENV)/trainers $(BIN)/python -m pytest tests/mixlaw/export tests/data/store/formats

crash: $(VENV)/.ready ## kills, full disks and broken shards by the hundred; about half an hour
	$(BIN)/python -m pytest -n auto -m crash

check: $(VENV)/.ready ## style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo "mixlaw needs Python 3.11 or newer; none was found on PATH"; exit 1; }
	@echo "setting up $(VENV) (about 1 GB without a GPU; once)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[train,dev]"
	@touch $@

$(VENV)/trainers: $(VENV)/.ready .ci/trainers.txt
	rm -rf $@
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $@ -r .ci/trainers.txt

clean: ## forget the environment; runs/ stays
	rm -rf $(VENV) .*_cache
