# Each target makes the virtual environment it needs; PYTHON chooses the interpreter.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PIP     = $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test test-slow check docs bench model clean

demo: $(VENV)/.local          ## watch the main job on the embedded demonstration model
	@$(BIN)/python scripts/demo.py

test: $(VENV)/.dev            ## the quick tests: some minutes on two cores
	$(BIN)/python -m pytest -n 4 --dist loadfile

test-slow: $(VENV)/.dev       ## the slow ones: kills at random moments, a real project from PyPI, the model's pass rate
	$(BIN)/python -m pytest -m slow

check: $(VENV)/.dev           ## style, types, import layers, generated pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

docs: $(VENV)/.dev            ## write the generated pages again
	$(BIN)/python docs/generate.py

bench: $(VENV)/.dev           ## CPU, memory and tokens as ratios to a floor measured in the same run
	$(BIN)/python -m benchmarks.harness

model:                        ## train the demonstration model again: under an hour on two cores
	$(PYTHON) -m venv training/out/venv
	training/out/venv/bin/python -m pip --disable-pip-version-check --quiet install -e '.[local,training]'
	training/out/venv/bin/python -m training.make_model

clean:
	rm -rf $(VENV) training/out .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip

$(VENV)/.local: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[local]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[local,dev]'
	@touch $@ $(VENV)/.local
