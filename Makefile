# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test check clean

demo: $(VENV)/.demo
	$(BIN)/xiaonet demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

check: $(VENV)/.dev
	PATH="$(abspath $(BIN)):$$PATH" scripts/check

clean:
	rm -rf $(VENV) build dist src/*.egg-info

$(VENV)/.demo: EXTRAS = train,plots
$(VENV)/.dev: EXTRAS = dev

# PyOcto comes without what it asks for: on Python 3.11 that is an older NumPy, which it does not need.
# A stamp a set of extras; either is made anew when what it installs has changed.
$(VENV)/.demo $(VENV)/.dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"
	$(if $(findstring dev,$(EXTRAS)),$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt pyocto)
	touch $@
