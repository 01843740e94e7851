# Every target sets up what it needs. `make demo` and `make test` are enough to start.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Where pip looks for torch. On Linux x86 the default index brings CUDA, several gigabytes; set this to the
# address of PyTorch's CPU wheels (PyTorch's own "Get Started" page names it) to get the small build.
TORCH_INDEX ?=
PORT ?= 8002
# Processes that run the tests side by side, each with services of its own.
TEST_WORKERS ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK := 1

TYPESCRIPT := 5.9.3

# Clips that settings are chosen on (training/library.py).
DEV_CLIPS := dance-jump dog-agility elephant hockey kite-walk scooter-gray soccerball surf

.PHONY: install demo serve test test-all check check-page image-check audit bench train eval clean

install: $(VENV)/.installed

$(VENV)/.installed: sam-service/pyproject.toml sam-service/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c sam-service/constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(BIN)/pip install --quiet -c sam-service/constraints.txt -e 'sam-service[dev]'
	@touch $@

demo: install
	$(BIN)/sam-service demo --out out $(if $(VIDEO),--video '$(VIDEO)') $(if $(POINT),--point '$(POINT)')

serve: install
	$(BIN)/sam-service serve --port $(PORT)

test: install
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile

test-all: install
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile -m 'not image'

check: install
	$(BIN)/ruff check .
	$(BIN)/mypy sam-service/sam_service training tests
	$(BIN)/python -m pytest -q tests/test_imports.py
	@$(MAKE) --no-print-directory check-page

# The types in the page's comments, read by TypeScript; nothing is built. Where there is no npx, node comes as a wheel.
check-page: install
	@command -v npx >/dev/null || $(BIN)/pip install --quiet -c sam-service/constraints.txt -e 'sam-service[page]'
	@export PATH="$$PATH:$(CURDIR)/$(BIN)"; tsc="npx --yes --package typescript@$(TYPESCRIPT) tsc"; \
	if $$tsc --version >/dev/null 2>&1; then $$tsc --project tests/web; \
	else echo "TypeScript could not be fetched from npm: the types of the page's scripts were not checked" >&2; fi

# Build the image and run it with Compose, as root: deploy/image_check.py.
image-check: install
	PYTHONPATH=.:sam-service $(BIN)/python -m deploy.image_check $(ARGS)

audit: install
	$(BIN)/pip install --quiet -c sam-service/constraints.txt -e 'sam-service[audit]'
	$(BIN)/pip-audit --disable-pip --no-deps -r sam-service/constraints.txt

bench: install
	$(BIN)/python -m benchmarks.compare $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX)) $(ARGS)

train: install
	$(BIN)/pip install --quiet -c sam-service/constraints.txt -e 'sam-service[train]'
	PYTHONPATH=.:sam-service $(BIN)/python -m training.train --out training/runs/nano $(if $(DATA),--data '$(DATA)') $(ARGS)
	PYTHONPATH=.:sam-service $(BIN)/python -m training.train --out training/runs/nano-2 --second --start training/runs/nano/checkpoint \
		--cache training/runs/nano/cache $(if $(DATA),--data '$(DATA)') $(ARGS)

# The field's own figures over REST, on the pictures of TRAINING_DATA that no training sees.
eval: install
	@test -n '$(TRAINING_DATA)' || { echo 'name the folder: make eval TRAINING_DATA=…'; exit 2; }
	PYTHONPATH=.:sam-service $(BIN)/python -m benchmarks.davis '$(TRAINING_DATA)/davis16' --sequences $(DEV_CLIPS) $(ARGS)
	PYTHONPATH=.:sam-service $(BIN)/python -m benchmarks.clicks '$(TRAINING_DATA)' --dev $(ARGS)

clean:
	rm -rf $(VENV) out benchmarks/out benchmarks/.peers .pytest_cache .mypy_cache .ruff_cache
