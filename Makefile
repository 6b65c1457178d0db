# Two commands for a new user, `make demo` and `make test`; the rest is for working on the harness.
.PHONY: install install-gpu demo docs example-site lighthouse test test-models test-parity test-inspect test-kills coverage unit lint format clean

# Without bytecode on disk every process compiles vLLM and torch anew, which takes half a minute.
unexport PYTHONDONTWRITEBYTECODE

STAMP := .venv/.installed
HARNESS := .venv/bin/harness
# Two processes, each file in one of them: an engine in each takes a core and 3 GB.
PYTEST := HF_HUB_OFFLINE=1 .venv/bin/python -m pytest
BY_TWO := -n 2 --dist loadfile

install: $(STAMP)

$(STAMP): pyproject.toml scripts/install.sh scripts/cpu-overrides.txt
	scripts/install.sh
	touch $(STAMP)

install-gpu:  ## the same for a machine with NVIDIA GPUs, with vLLM's CUDA build
	scripts/install.sh gpu
	touch $(STAMP)

demo: install  ## four tiny models through vLLM on the CPU, then their scorecards
	HF_HUB_OFFLINE=1 $(HARNESS) run configs/runs/demo.yaml

docs: install  ## the documentation as a site, into site/
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

example-site: install  ## an example of a leaderboard, into build/example; DATA=FOLDER adds transcripts that others published
	scripts/example_site.sh build/example $(DATA)

lighthouse: install  ## what Lighthouse says of pages of build/example/site: minutes, needs Node and Chromium
	.venv/bin/python scripts/lighthouse.py build/example/site --out results/bench/lighthouse.md

test: install  ## every test but those of test-models, test-parity, test-inspect and test-kills
	$(PYTEST) $(BY_TWO) --no-loadscope-reorder -m "not families and not parity and not kills"

test-parity: install  ## lm-eval itself beside the harness, on public data: minutes
	$(PYTEST) tests/parity

# The last version whose requirements can all be had; its tasks need but two packages more.
INSPECT_EVALS := build/inspect-evals

$(INSPECT_EVALS): $(STAMP)
	.venv/bin/pip install --quiet --no-deps --target $@ inspect-evals==0.18.0 backoff==2.2.1 toml==0.10.2

test-inspect: $(INSPECT_EVALS)  ## tasks of inspect-evals beside Inspect's own runner against vllm serve: minutes
	PYTHONPATH=$(INSPECT_EVALS) $(PYTEST) tests/parity/test_inspect.py

test-kills: install  ## thirty SIGKILLs over workers and launchers, on one machine, Slurm and Ray: minutes
	$(PYTEST) tests/run/test_kills.py --durations 3

test-models: install  ## every architecture class of the registry, loaded by vLLM: about 20 minutes on 2 idle cores
	$(PYTEST) tests/models/test_families.py -k "test_family or test_the_table" --durations 5

coverage: install  ## how often the 95% intervals hold a known truth, in simulated runs: an hour
	.venv/bin/python scripts/simulate_coverage.py --runs 2000 --seed 2 --out results/bench/coverage.md

unit: install  ## the tests that need neither an engine nor a large library
	$(PYTEST) $(BY_TWO) \
		-m "not engine and not families and not training and not slow and not integration and not kills"

lint: install  ## style and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: install
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build dist site
