# Each target sets up the environment that it needs: `make demo`, `make test`, `make docs`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test faults edge native check docs clean

demo: $(VENV)/.demo
	$(BIN)/xiaonet demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

# Kills and damage for hours on one core. FAULTS_SEED=1 tries others.
faults: $(VENV)/.dev
	FAULTS_PICK_KILLS=1000 FAULTS_COMMAND_KILLS=100 FAULTS_RECORDS=10000 FAULTS_MODELS=1000 FAULTS_ARCHIVE_KILLS=100 $(BIN)/python -m pytest -rA tests/faults tests/archives/test_clusters.py $(ARGS)

# The C for microcontrollers on emulated boards: needs arm-none-eabi-gcc, newlib and qemu-system-arm.
edge: $(VENV)/.dev
	$(BIN)/python benchmarks/edge.py $(ARGS)

# The runtime native and the averaging of windows, compiled again after a change of native.c or averaging.c.
native: $(VENV)/.dev
	$(BIN)/python -c 'import setuptools; setuptools.setup()' build_ext --inplace

check: $(VENV)/.dev
	PATH="$(abspath $(BIN)):$$PATH" scripts/check

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -M html docs docs/_build -W --keep-going

clean:
	rm -rf $(VENV) build dist docs/_build src/*.egg-info

$(VENV)/.demo: EXTRAS = train,plots
$(VENV)/.dev: EXTRAS = dev
$(VENV)/.docs: EXTRAS = docs

# One stamp for each set of extras. A change of the two files below installs again.
# PyOcto goes in without its dependencies: it asks for an older NumPy on Python 3.11, which it does not need.
$(VENV)/.demo $(VENV)/.dev $(VENV)/.docs: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e ".[$(EXTRAS)]"
	$(if $(findstring dev,$(EXTRAS)),$(PIP) --no-deps pyocto)
	touch $@
