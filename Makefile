# Thin targets over the tools; each works in a fresh clone. `make venv` is done once, and again when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: venv demo test slow wide lint format docs

venv: .venv/installed

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

# three real clips, captioned by the embedded model (fetches about 25 MB once)
demo: venv
	$(BIN)/evlgen data samples --out samples
	$(BIN)/evlgen caption samples --out demo.jsonl
	@$(BIN)/python -c "import json; [print(row['video'], '|', row['caption']) for row in map(json.loads, open('demo.jsonl'))]"

test: venv
	$(BIN)/pytest --numprocesses auto --dist worksteal

# what takes seconds or tries many variants
slow: venv
	$(BIN)/pytest -m slow --numprocesses auto --dist worksteal

# every class of transformers that captions, where the default suite takes three
wide: venv
	$(BIN)/pytest -m wide --numprocesses auto --dist worksteal

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# pages of the API, from docstrings, for the rooms that people enter from Python
docs: venv
	$(BIN)/python -m pdoc --docformat google --output-directory docs/api \
		evlgen.bench evlgen.captioning evlgen.captioners evlgen.data evlgen.evaluating evlgen.exports evlgen.hub evlgen.metrics evlgen.modeling evlgen.recipes \
		evlgen.serving evlgen.training evlgen.video evlgen.visualize
