# `make install` makes the virtual environment; every other target makes what it needs and is quick the second time.

VENV := .venv
PY := $(VENV)/bin/python
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
KILLS ?= 200
CHECKS ?= hole-* merged-*
JOBS ?= 1
TIMES ?= 10
WITHIN ?= 3
PAIRS ?= 10
# Files of tests side by side, each job with its own broker; long ones first.
SPREAD := $(if $(filter 1,$(JOBS)),,--numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder)

.PHONY: help install demo unit test test-long soak check house format bench bench-peers chaos handbook handbook-models loans \
	bench-backtest bench-http certify faust-agrees model-check schemas constraints servers clean

help:  ## say what each target does
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 20

# uv installs in seconds what takes pip a minute; where it cannot, pip does.
define install
	@echo "installing $(1)"
	@$(PIP) uv && UV_SYSTEM_CERTS=1 $(VENV)/bin/uv pip install --quiet --python $(PY) --constraint constraints.txt \
		--editable '$(1)' || $(PIP) --editable '$(1)'
endef

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(call install,.[demo])
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(call install,.[dev])
	@touch $@ $(VENV)/.demo

install: $(VENV)/.installed  ## make .venv with riskstream and all that the other targets need

demo: $(VENV)/.demo  ## live alerts on this machine, no server needed; DEMO="--seconds 30 --json" passes options
	$(VENV)/bin/riskstream demo $(DEMO)

servers: install  ## Apache Kafka's jars and redis-server, for the tests
	bash tests/servers/install.sh

unit: install  ## every test that needs no server, two at a time; the first run compiles the kernels
	RISKSTREAM_TEST_SERVERS=none $(PY) -m pytest -m "not server and not long" --numprocesses 2 --dist worksteal

test: servers  ## the whole suite on real Apache Kafka and Redis; JOBS=3 runs three files at a time
	$(PY) -m pytest -m "not long" $(SPREAD)

test-long: servers  ## what takes minutes: tests marked long
	$(PY) -m pytest -m long

soak: servers  ## the suite TIMES times in a row, to the first failure; JOBS as for test
	for n in $$(seq $(TIMES)); do \
		echo "run $$n of $(TIMES)"; CI=true $(PY) -m pytest -q -x -m "not long" $(SPREAD) || exit 1; done

check: install  ## style, types, imports, docs
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(PY) -m pytest tests/meta

house: install  ## the shape of the code: folders, files, functions, names, repeated lines; and their limits
	$(PY) -m tools.house --list

format: install  ## rewrite the code as ruff formats it
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: servers  ## riskstream's own speed (minutes); AGAINST=<commit> WITHIN=3 PAIRS=10: CPU beside that commit, in turn
	$(if $(AGAINST),$(PY) -m benchmarks.against $(AGAINST) --within $(WITHIN) --pairs $(PAIRS),$(PY) -m benchmarks.bench)

bench-peers: install  ## the same job in other frameworks, side by side (long)
	bash tests/servers/install.sh javac
	$(PY) -m benchmarks.peers

bench-http: install  ## HTTP scoring under load beside a plain service
	bash tests/servers/install.sh hey
	$(PY) -m benchmarks.http

bench-backtest: install  ## backtests of the handbook, once and ten times over: events/s, CPU, memory (minutes)
	$(PY) -m benchmarks.backtest

chaos: servers  ## kill workers KILLS times and compare with an undisturbed run
	$(PY) -m benchmarks.chaos --kills $(KILLS)

handbook: install  ## the published features of 1.75 million transactions, compared row by row
	$(PY) -m benchmarks.handbook

handbook-models: install  ## the published fraud baselines beside ours
	$(PY) -m benchmarks.handbook_models

loans: install  ## the published credit baselines beside ours
	$(PY) -m benchmarks.loans

certify: servers  ## two workers, one killed, one added, a promotion: every decision again, bit for bit; then altered copies
	$(PY) -m benchmarks.certify

faust-agrees: servers  ## the Faust face against the worker, alert by alert
	$(PY) -m benchmarks.faust_agrees

model-check: servers  ## the protocol's TLA+ model: every rule switched off must fail (minutes); CHECKS= runs all, hours
	$(PY) -m tools.protocol.check $(foreach check,$(CHECKS),'$(check)')

schemas: install  ## write the generated reference pages and JSON Schemas anew
	$(PY) tools/reference.py

constraints: $(VENV)/bin/python  ## resolve every dependency anew and pin what came out
	$(PY) -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[dev]'
	{ echo "# Exact versions that riskstream is built and tested with: every package of every extra (but ray and s3)."; \
	  echo "# Renew: make constraints"; $(PY) -m pip freeze --exclude-editable | sort -f; } > constraints.txt

clean:  ## forget what was built and measured; keeps .venv
	rm -rf build .pytest_cache .mypy_cache .ruff_cache
