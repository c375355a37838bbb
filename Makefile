# One environment, .venv, for everything. It is set up again only when what it is made from changes.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
TORCHVISION := .venv/torchvision-ready

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-slow fit lint types format clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

venv: $(TORCHVISION) ## set up .venv with every extra

demo: venv ## a tour: trace, estimate, whole requests, compare; writes into out/
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh

# two at a time, a file as one piece: fixtures of a module are costly. Each keeps to one thread
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test: venv ## the tests that take seconds
	@$(PYTEST) -m "not slow"

# pytest ends with 5 when no test is marked slow, and that is no failure
test-slow: venv ## the tests that take minutes
	@$(PYTEST) -m slow || test $$? -eq 5

fit: venv ## refit coefficients on measurement files (HWSIM_SHARED or ../shared)
	@$(BIN)/python -m hwsim.fitting_gpus "$${HWSIM_SHARED:-../shared}/measurements"
	@$(BIN)/python -m hwsim.fitting_tpus "$${HWSIM_SHARED:-../shared}/measurements"
	@$(BIN)/python -m hwsim.fitting_links "$${HWSIM_SHARED:-../shared}/measurements"

lint: venv ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: venv ## mypy --strict
	@$(BIN)/mypy

format: venv ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## remove .venv and everything that was generated
	rm -rf .venv build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "hwsim needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all]"
	@touch $@

$(TORCHVISION): $(READY) tools/install_torchvision_hook.py tools/torchvision_hook.py
	$(BIN)/python tools/install_torchvision_hook.py
	@touch $@
