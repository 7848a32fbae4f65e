# For GNU make 3.81 (the one macOS has) and newer.

BIN := .venv/bin

# The tests of the modules whose coverage is insisted on (see pyproject.toml). Measuring it makes them slow.
COVERING := tests/wire tests/codec tests/pipeline tests/test_call.py

.PHONY: help setup dev demo test check format readme man dist clean fixtures bench
.NOTPARALLEL:

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: ## Install what is missing: system libraries, .venv, the package in it
	@sh scripts/setup.sh

dev: ## The same, with the development tools
	@sh scripts/setup.sh dev

demo: setup ## Talk to the local stand-in with a spoken question (no key, no sound card)
	@echo 'The stand-in greets you; then examples/question.opus asks it something, and it repeats what it heard.'
	$(BIN)/personaplex talk --local --input examples/question.opus --output answer.wav
	@echo 'Its voice is in answer.wav. With microphone and speaker: $(BIN)/personaplex talk --local'

# The tests start the program some sixty times: compiled once, not each time, whatever the environment says.
test: export PYTHONDONTWRITEBYTECODE =
test: check ## Check, then run the tests; with branch coverage those of the parts that must have it
	@sh scripts/setup.sh test
	$(BIN)/python -m pytest -n 3 --dist loadscope $(addprefix --ignore=,$(COVERING))
	$(BIN)/python -m pytest -n 3 --dist worksteal $(COVERING) --cov --cov-report=term-missing --cov-fail-under=95

check: dev ## Lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy

format: dev ## Format the code, sort the imports
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

readme: dev ## Write what README.md says about commands, exit codes and so on
	$(BIN)/python scripts/readme.py

man: dev ## Write the man page, docs/personaplex.1
	$(BIN)/python scripts/manpage.py

dist: dev ## Build sdist and wheel into dist/, check them, and try the wheel in an empty environment
	$(BIN)/python scripts/readme.py --check
	$(BIN)/python scripts/manpage.py --check
	$(BIN)/python scripts/dist.py

fixtures: dev ## Make the clips (needs espeak-ng, sox, opus-tools) and the README's picture
	sh scripts/make_speech.sh
	sh scripts/make_fixtures.sh
	sh scripts/make_room_noise.sh
	$(BIN)/python scripts/screenshot.py

bench: dev ## Measure: start-up time, codec, playout, echo, and delay on a virtual sound card
	$(BIN)/python scripts/bench_startup.py
	$(BIN)/python scripts/bench_codec.py
	$(BIN)/python scripts/bench_playout.py
	$(BIN)/python scripts/bench_echo.py
	$(BIN)/python scripts/bench_latency.py

clean: ## Remove what the other targets made, .venv included
	rm -rf .venv build dist *.egg-info answer.wav .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
