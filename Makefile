# Every target works from a fresh clone: it makes its own virtual environment and needs only
# python3 (>= 3.10, with headers) and a C++17 compiler.
#   make test | demo | bench    the product, installed as a wheel into .venv*
#   make dev                    build the core in place, with the python in PYTHON, to work on it

PYTHON ?= python3
VENV ?= .venv
BUILD_VENV ?= .venv-build
EXTRA ?= [test]
WHEEL ?=
PYTEST_ARGS ?=
ROOT := $(CURDIR)
SOURCES := $(shell find fastdist -type f \( -name '*.py' -o -name '*.py[xi]' -o -name '*.pxd' -o -name py.typed \)) \
	setup.py pyproject.toml MANIFEST.in
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help dev test test-dask simulate chaos fuzz leaks demo bench bench-smoke lint annotate debug asan wheel clean ci install core-tests

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

# --- environments -----------------------------------------------------------------------------

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip

# Cython counts its own headers as sources: they are made old, so that a new environment builds nothing anew.
$(BUILD_VENV)/ready:
	$(PYTHON) -m venv $(BUILD_VENV)
	$(BUILD_VENV)/bin/python -m pip install --quiet --upgrade pip build "setuptools>=77" "Cython>=3.1,<4"
	find $(BUILD_VENV)/ -path '*/Cython/Includes/*' -name '*.pxd' -exec touch -d 2000-01-01 {} +
	@touch $@

# What is left over from deleted sources must not reach the wheel; compiled modules stay, they are dear.
$(VENV)/wheel.built: $(SOURCES) $(WHEEL) | $(VENV)/bin/pip $(if $(WHEEL),,$(BUILD_VENV)/ready)
	rm -rf $(VENV)/wheel && mkdir -p $(VENV)/wheel
	@find build -path '*/lib.*' -type f ! -name '*.so' -delete 2>/dev/null || true
	$(if $(WHEEL),cp $(WHEEL) $(VENV)/wheel,\
	$(BUILD_VENV)/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(VENV)/wheel .)
	@touch $@

# The .pth line lets workers find the modules of the tests; it comes after site-packages.
$(VENV)/installed: $(VENV)/wheel.built
	$(VENV)/bin/python -m pip install --quiet --force-reinstall --no-deps $(VENV)/wheel/*.whl
	$(VENV)/bin/python -m pip install --quiet "$$(echo $(VENV)/wheel/*.whl)$(EXTRA)"
	echo "$(ROOT)/$(VENV)/tree" > "$$($(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz-tests.pth"
	@touch $@

install: $(VENV)/installed

# Tests and benchmarks run in a copy of their folders, with no `fastdist/` beside them that could be imported
# instead of the wheel.
define fresh_tree
rm -rf $(VENV)/tree && mkdir $(VENV)/tree
cp -r tests bench examples pyproject.toml $(VENV)/tree
endef
PYTEST = cd $(VENV)/tree && SOURCE_TREE=$(ROOT) ../bin/pytest -p no:cacheprovider

# --- the product ------------------------------------------------------------------------------

test: $(VENV)/installed  ## run the tests against the built wheel
	$(fresh_tree)
	$(PYTEST) tests $(PYTEST_ARGS)

test-dask: $(VENV)/installed  ## run a selection of dask's own tests on fastdist (DASK_ARGS=--full for all)
	$(fresh_tree)
	cd $(VENV)/tree && ../bin/python tests/dask_suites/run.py $(DASK_ARGS)

simulate: $(VENV)/installed  ## run simulated clusters, seed after seed, until stopped (SIMULATE_ARGS="--seconds 180")
	cd $(VENV) && bin/python -m fastdist.testing.simulation $(SIMULATE_ARGS)

chaos: $(VENV)/installed  ## faults in workloads, carried on from chaos.jsonl (SEEDS=5, CELLS=F1,F3-W2, CHAOS_ARGS=--fresh)
	$(fresh_tree)
	cd $(VENV)/tree && ../bin/python -m tests.chaos --results $(ROOT)/chaos.jsonl --seeds $(or $(SEEDS),1) \
		--cells "$(CELLS)" $(CHAOS_ARGS)

fuzz: $(VENV)/installed  ## feed broken bytes to what reads from the network and the disk (FUZZ_ARGS="--seconds 600")
	$(fresh_tree)
	cd $(VENV)/tree && ../bin/python -m tests.fuzz $(FUZZ_ARGS)

leaks: $(VENV)/installed  ## look for what 1 000 000 tasks and 1 000 connections leave behind (LEAKS_ARGS="--tasks 10000000")
	$(fresh_tree)
	cd $(VENV)/tree && ../bin/python -m tests.leaks $(LEAKS_ARGS)

demo:  ## count the identifiers of the standard library
	@$(MAKE) --no-print-directory install VENV=.venv-demo EXTRA=
	.venv-demo/bin/python examples/count_identifiers.py

bench: $(VENV)/installed  ## a short run of every benchmark
	$(fresh_tree)
	$(PYTEST) bench --benchmark-only --benchmark-warmup=on --benchmark-max-time=0.5 --benchmark-min-rounds=3 \
		$(PYTEST_ARGS)
	$(VENV)/bin/python bench/compare.py --quick --peers fastdist,inprocess,relay,processpool

bench-smoke: $(VENV)/installed  ## run every benchmark once, for its result and not for its time
	$(fresh_tree)
	$(PYTEST) bench --benchmark-disable $(PYTEST_ARGS)
	$(VENV)/bin/python bench/compare.py --smoke --peers fastdist,inprocess,relay,processpool

# --- working on it ----------------------------------------------------------------------------

dev:  ## build the core in place (needs setuptools and Cython in PYTHON)
	$(PYTHON) setup.py --quiet build_ext --inplace

annotate:  ## write Cython's annotated HTML beside the C++ in build/cython
	FASTDIST_ANNOTATE=1 $(PYTHON) setup.py --quiet build_ext --inplace
	@find build/cython -name '*.html'

debug:  ## build with all of Cython's checks and run the tests of the core
	FASTDIST_DEBUG=1 $(MAKE) --no-print-directory core-tests VENV=.venv-debug

asan:  ## the same with AddressSanitizer and UndefinedBehaviorSanitizer
	FASTDIST_DEBUG=1 FASTDIST_SANITIZE=1 $(MAKE) --no-print-directory install VENV=.venv-asan
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 PYTHONMALLOC=malloc \
	LD_PRELOAD="$$($${CXX:-c++} -print-file-name=libasan.so) $$($${CXX:-c++} -print-file-name=libstdc++.so)" \
		$(MAKE) --no-print-directory core-tests VENV=.venv-asan

core-tests: $(VENV)/installed
	$(fresh_tree)
	$(PYTEST) --timeout 600 $(wildcard tests/core tests/model) $(PYTEST_ARGS)

lint:  ## ruff, cython-lint, mypy, and the stubs against the compiled modules
	@$(MAKE) --no-print-directory install VENV=.venv-lint EXTRA=[lint]
	.venv-lint/bin/ruff check .
	PATH="$(ROOT)/.venv-lint/bin:$$PATH" cython-lint fastdist
	.venv-lint/bin/mypy
	.venv-lint/bin/mypy --strict --follow-imports silent examples/typed.py
	cd .venv-lint && bin/python -m mypy.stubtest --concise --ignore-missing-stub --ignore-unused-allowlist \
		--ignore-disjoint-bases \
		--mypy-config-file $(ROOT)/pyproject.toml --allowlist $(ROOT)/tests/stubtest_allowlist.txt \
		$(shell find fastdist/_core -name '*.pyi' ! -name '__init__.pyi' | sed -e 's/\.pyi$$//' -e 's#/#.#g' | sort)

wheel: $(BUILD_VENV)/ready  ## build the sdist, and from it the wheel, each in isolation, into dist/
	rm -rf dist && $(BUILD_VENV)/bin/python -m build --outdir dist .

ci:  ## what the CI runs
	bash .ci/run

clean:  ## remove all that was built
	rm -rf build dist .venv .venv-* *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find fastdist -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
