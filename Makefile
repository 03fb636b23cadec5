# Two commands do all the set-up: `make run` (the main job on real etcd processes) and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ETCD_VERSIONS := $(or $(SPLITVOTE_ETCD_VERSIONS),.etcd-versions)
STOCK := $(ETCD_VERSIONS)/3.5.30/etcd
SEED ?= $(shell od -An -N3 -tu4 /dev/urandom | tr -d ' ')

# Known and open on every version of etcd; left out, so that a first verdict is about your own cluster.
OPEN_ISSUES := 18667,15247

BUDGET ?= 60m
# local, netns, compose or sim
CLUSTER ?= local
FAULTS ?= all
AVOID ?= open
ETCD ?= $(if $(filter sim,$(CLUSTER)),,$(STOCK))
UPGRADE ?= $(if $(filter $(STOCK),$(ETCD)),$(ETCD_VERSIONS)/3.5.16/etcd)
# Versions are fetched for whoever names no etcd of his own.
NIGHT_ETCD_FETCHED = $(if $(filter $(STOCK),$(ETCD)),$(ETCD_VERSIONS)/.complete)

.PHONY: run nightly set-up-nightly test acceptance-workloads acceptance-clusters exam exam-slice lint bench fuzz stubs clean

## The main job: puts, transactions, watches, elections and leases on real etcd processes that are killed, paused and cut
## off from each other. No docker, no root.
run: $(VENV)/.run
	$(BIN)/splitvote run kv+watch+election+lease --faults kill,pause,partition --avoid $(OPEN_ISSUES) \
	  --time 60 --rate 200 --concurrency 20 --seed $(SEED) $(RUN_ARGS)

## A night: kv+watch+election+lease, register and append in turn under all families of faults, for BUDGET. As
## make nightly SEED=7 BUDGET=20m CLUSTER=compose; AVOID= leaves nothing out. docs/nightly.md has the exit codes.
nightly: set-up-nightly $(NIGHT_ETCD_FETCHED)
	$(BIN)/splitvote nightly $(WORKLOADS) --seed $(SEED) --budget $(BUDGET) --cluster $(CLUSTER) --faults $(FAULTS) \
	  --avoid '$(AVOID)' $(addprefix --etcd ,$(ETCD)) $(addprefix --upgrade ,$(UPGRADE)) $(NIGHT_ARGS)

## What a night in docker-compose wants on this side of docker.
set-up-nightly: $(VENV)/.compose

## Every test, ruff and mypy.
test: lint $(ETCD_VERSIONS)/.complete
	SPLITVOTE_ETCD_VERSIONS=$(abspath $(ETCD_VERSIONS)) $(BIN)/pytest $(TEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

## Every workload on stock etcds, healthy and with known defects; resumable. ACCEPTANCE_ARGS="--only slice" is a part of it.
acceptance-workloads: $(ETCD_VERSIONS)/.complete
	$(BIN)/python tests/acceptance/workloads.py $(ETCD_VERSIONS) $(ACCEPTANCE_ARGS)

## Every cluster but those of this machine's processes: namespaces, docker-compose, ssh, somebody else's. What cannot be tried
## here says so (exit 3) and is passed over.
acceptance-clusters: $(VENV)/.dev $(ETCD_VERSIONS)/.complete
	for script in netns.sh compose.sh "own_docker.sh sh -c 'docker/base.sh import && .venv/bin/splitvote up --build && \
	  .venv/bin/splitvote down && tests/acceptance/attach.sh'" ssh.sh; do \
	  eval "tests/acceptance/$$script" || [ $$? -eq 3 ] || exit 1; done

## Every planted bug against the workloads meant for it, and the control; the table goes to docs/exam.md. Resumable.
exam: $(VENV)/.run
	$(BIN)/splitvote exam --write docs/exam.md $(EXAM_ARGS)

## A few minutes of it: each bug's first workload until it is caught, and 64 seeds of the control.
exam-slice: $(VENV)/.run
	$(BIN)/splitvote exam --first-only --seeds 1 --control 64 $(EXAM_ARGS)

## Speed, against a reference timed in the same run; exits 1 where a bar is missed.
bench: $(VENV)/.dev
	for bench in bench/*.py; do echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

## Checkers, and what a loss of power takes from a disk, against independent brute force.
fuzz: $(VENV)/.dev $(ETCD_VERSIONS)/.complete
	$(BIN)/python tests/checkers/linearizability/fuzz.py --histories 50000
	$(BIN)/python tests/checkers/isolation/fuzz.py --histories 20000 --seed 1 --seconds 600
	$(BIN)/python tests/checkers/fuzz_library.py --histories 20000 --seed 1 --seconds 600
	$(BIN)/python tests/checkers/kv/fuzz.py --histories 20000 --seed 1
	$(BIN)/python tests/checkers/watch/fuzz.py --histories 20000 --seed 1
	$(BIN)/python tests/checkers/lock/fuzz.py --histories 20000 --seed 1
	$(BIN)/python tests/checkers/lease/fuzz.py --histories 20000 --seed 1
	$(BIN)/python tests/harness/clusters/disks/fuzz.py --histories 50000 --seed 1
	$(BIN)/python tests/harness/simulation/differential.py $(STOCK) --operations 10000 --seed 1

## Regenerate the gRPC stubs from our own proto file.
stubs: $(VENV)/.dev
	$(BIN)/python harness/etcd/proto/generate.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[etcd]'
	touch $@

$(VENV)/.compose: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[etcd,compose]'
	touch $@ $(VENV)/.run

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[etcd,compose,dev]'
	touch $@ $(VENV)/.run $(VENV)/.compose

$(ETCD_VERSIONS)/.complete: tests/etcd-versions | $(VENV)/.dev
	PYTHON=$(abspath $(BIN)/python) tests/etcd-versions $(ETCD_VERSIONS)
	touch $@

clean:
	rm -rf $(VENV) .etcd-versions build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
