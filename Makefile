# Two commands matter: `make app` starts the app, `make test` runs the whole suite.
# Both create .venv and install what they need. PYTHON may name another Python 3.11 or 3.12.
PYTHON ?= python3
BIN := .venv/bin
export GRADIO_ANALYTICS_ENABLED := False
export HF_HUB_DISABLE_TELEMETRY := 1
# Two files at a time, each with one thread of torch: more of them wait for each other on two cores.
# Files stay whole, for their tests share a page, models and sounds, and come in the order of
# conftest.py.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: app test test-all lint bench

app: .venv/installed
	$(BIN)/python app.py

test: .venv/installed-test
	command -v chromium >/dev/null || (apt-get update && apt-get install -y chromium)
	$(PYTEST) -m "not slow"

test-all: .venv/installed-test
	command -v chromium >/dev/null || (apt-get update && apt-get install -y chromium)
	$(PYTEST)

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: .venv/installed-test
	$(BIN)/python -m analysis.bench

.venv/installed: requirements.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed')"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.txt
	touch $@

.venv/installed-test: .venv/installed pyproject.toml
	$(BIN)/pip install --quiet --editable '.[mcp,pretraining,test]'
	touch $@
