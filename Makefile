# `make demo` and `make test` do their own set-up; everything lives in .venv.
.PHONY: help setup demo test check thorough audit fix faults kills e2e simulator ray imagecheck lowering bench scale clean
.DEFAULT_GOAL := help
BIN := .venv/bin
T ?= tests
N ?= 500
SEED ?= 20261122

help:            ## this list
	@grep -hE '^[a-z0-9]+: .*##|^[a-z0-9]+:  *##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: .venv/ready-dev  ## environment in .venv, with all that the tests need
.venv/ready-%: pyproject.toml scripts/setup.sh
	@scripts/setup.sh $*

demo: .venv/ready-cpu  ## label 23,517 real rows, and show what came out
	@$(BIN)/batchneuron run jobs/quickstart.yaml
	@$(BIN)/batchneuron report out/quickstart --against category

test: setup      ## the tests; one of them: make test T=tests/planning/test_plan.py
	$(BIN)/python -m pytest -n 2 --dist loadfile $(T)

check: setup     ## what CI runs: format, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) --no-print-directory test T=tests

thorough: setup  ## what the daily tests do, with all architectures, more workers, more moments
	$(BIN)/python -m pytest -m thorough -n 2 --dist loadfile tests

audit: setup     ## known vulnerabilities of what is installed, if the database answers
	@$(BIN)/python scripts/audit.py

fix: setup       ## format, and mend what can be mended safely
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

faults: setup    ## the fault matrix: kill it, fill its disk, cut its network, and see that nothing is lost
	$(BIN)/python -m pytest -m '(faults or case) and not (e2e or simulator or ray)' -n 2 --dist worksteal --matrix tests

kills: setup     ## random kills over a folder and a bucket: make kills N=500 SEED=1
	$(BIN)/python -m pytest -m faults -s --kills $(N) --kill-seed $(SEED) tests/faults/test_kill.py

e2e: setup       ## every spec in jobs/, and every command of docs/neuron.md on a simulated machine
	$(BIN)/python -m pytest -m e2e tests/e2e tests/aws tests/test_neuron_page.py

lowering: setup  ## every program through both Neuron front ends, without a device
	@scripts/lowering.sh

ray: setup       ## clusters of several nodes, simulated on this machine, that lose actors, nodes and drivers
	$(BIN)/python -m pytest -m ray tests/engines

simulator: setup ## the runner and the compilers on simulated Neuron machines
	$(BIN)/python -m pytest -m simulator -o timeout=900 tests/simulator tests/test_simulated_run.py tests/test_simulated_cores.py

imagecheck:      ## build the cpu image, and run jobs in it (docker or podman)
	@scripts/check_image.sh

bench: setup     ## figures of benchmarks/, batchneuron beside its peers
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/start.py
	$(BIN)/python benchmarks/decode.py
	$(BIN)/python benchmarks/host_path.py
	$(BIN)/python benchmarks/commit.py
	$(BIN)/pip install --quiet '.[bench]'
	$(BIN)/python benchmarks/forward.py
	$(BIN)/python benchmarks/peers/compare.py

scale: setup     ## jobs of up to 10,000 cores, by simulation: about half an hour
	$(BIN)/python benchmarks/scale/run.py

clean:           ## remove .venv and outputs
	rm -rf .venv .venv-lowering .bench out
