# `make serve`, `make test` and `make check` each work on a fresh checkout: they first set up .venv. Each finished step writes a stamp,
# so an interrupted set-up continues where it stopped. Set-up needs x86-64 Linux, git, curl and Python 3.12. The Python package index
# provides the rest; Whisper's weights come from OpenAI's address if it answers.

PYTHON := .venv/bin/python
UV := .venv/bin/uv
DONE := .venv/.done
SERVED := ray.serve graphs.voice_to_image graphs.http.app $(subst /,.,$(basename $(wildcard deployments/*/engine.py)))
# Set-up builds the guide once, and `make docs` anew. A build that fails leaves the former one.
GUIDE_AT := graphs/http/guide
GUIDE = rm -rf build/guide && $(PYTHON) -m sphinx --quiet $(STRICT) -b html -d build/doctrees -c docs . build/guide \
	&& rm -rf $(GUIDE_AT) && mv build/guide $(GUIDE_AT)
unexport PYTHONHOME PYTHONPATH

.PHONY: help setup serve test docs jaeger kubernetes lint types check lock clean moved

help:
	@echo "make serve [PORT=8000]   set up and serve on http://127.0.0.1:8000 (ADDRESS=0.0.0.0: on every address of this machine; CONFIG=FILE: another Serve config)"
	@echo "make test [ARGS=...]     set up and run every test"
	@echo "make kubernetes          set up, then run the tests on a real Kubernetes of six nodes on this machine (root, Go, cgroups of version 1)"
	@echo "make check               set up, then lint, types and the quick tests (no torch, Triton, Ray or Chromium): under a minute on 2 cores"
	@echo "make docs                set up, then build the guide, which the service has at /docs/guide; a warning is an error"
	@echo "make lint                set up, then lint and types alone"
	@echo "make types               set up, then types alone"
	@echo "make setup               only set up .venv"
	@echo "make jaeger              build Jaeger for the tests of traces, with Go, into the user's cache"
	@echo "make lock [ARGS=...]     rewrite requirements.lock from pyproject.toml (ARGS=--upgrade for newer versions)"
	@echo "make clean               remove .venv and all other build products"

serve: setup
	@set -a; . graphs/ray.env; exec .venv/bin/sonograph serve $(if $(CONFIG),--config $(CONFIG)) $(if $(PORT),--port $(PORT)) $(if $(ADDRESS),--host $(ADDRESS))

# Tests of code in their own process run side by side, each on one core: the slow ones by file, since those of a file share what takes
# long to make. A service, a Triton and a browser run alone.
ALONE := triton or serve or browser
BESIDE := OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n logical
test: setup
ifdef ARGS
	@$(PYTHON) -m pytest $(ARGS)
else
	@$(BESIDE) --dist worksteal -m "not (slow or kubernetes or $(ALONE))"; quick=$$?; \
		$(BESIDE) --dist loadfile -m "slow and not (kubernetes or $(ALONE))"; slow=$$?; \
		$(PYTHON) -m pytest -m "$(ALONE)"; alone=$$?; exit $$((quick || slow || alone))
endif

docs: STRICT := --fresh-env --fail-on-warning --keep-going --nitpicky
docs: setup
	@$(GUIDE)

jaeger: setup
	@$(PYTHON) -m testing.jaeger

kubernetes: setup
	@$(PYTHON) -m pytest tests/kubernetes $(ARGS)

# A Triton model's model.py belongs to no package and all have one name: mypy takes them one by one.
TYPES := $(PYTHON) -m mypy && for model in $(wildcard deployments/*/repository/*/1/model.py testing/*/*/1/model.py \
	testing/*/*/repository/*/1/model.py); do $(PYTHON) -m mypy --no-error-summary $$model || exit 1; done
lint: setup
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(TYPES)

types: setup
	@$(TYPES)

# mypy runs beside the tests. Their compiled modules are kept, also where Python is told not to: pytest compiles them anew in 8 s a process.
check: setup
	@$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check .
	@($(TYPES)) & types=$$!; PYTHONDONTWRITEBYTECODE= $(PYTHON) -m pytest -q --quick -p no:schemathesis -n logical --dist worksteal; tests=$$?; wait $$types && exit $$tests

lock: $(DONE)/environment
	@$(UV) pip compile --quiet --python-version 3.12 --python-platform x86_64-manylinux_2_31 --all-extras --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --output-file requirements.lock $(ARGS) pyproject.toml

clean:
	rm -rf .venv build $(GUIDE_AT) *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

setup: $(DONE)/whisper $(GUIDE_AT)/docs/index.html ;

$(GUIDE_AT)/docs/index.html: | $(DONE)/packages
	@echo "[5/5] Guide ..."
	@mkdir -p build && flock build sh -ec '[ -e $@ ] || { $(GUIDE); }'

# Two concurrent set-ups take turns in the first two steps; each later step locks for itself.
$(DONE)/environment: images/uv-requirements.lock
	$(find-python)
	@echo "[1/5] Python 3.12 environment in .venv ..."
	@flock Makefile sh -euc '\
		[ "$$(cat $@ 2>/dev/null)" = "$(CURDIR)" ] && $(PYTHON) -c "" 2>/dev/null || "$(PYTHON_3_12)" -m venv --clear .venv; \
		$(PYTHON) -m pip install -qq --require-hashes --no-deps --only-binary=:all: -r images/uv-requirements.lock; \
		mkdir -p $(DONE); echo "$(CURDIR)" >$@'

# Scripts in .venv contain its path, so an environment that was moved or copied, or whose Python no longer exists, is rebuilt.
ifneq ($(wildcard $(DONE)/environment),)
ifneq ($(file <$(DONE)/environment)$(if $(realpath $(PYTHON)),,gone),$(CURDIR))
$(DONE)/environment: moved
endif
endif

# This project and one package without a wheel are built with the lock's setuptools.
# uv treats a package that an interruption left half installed as complete, so after an interruption all packages but pip and uv are removed first.
# Finally one process imports the modules that serve and so compiles them: otherwise each process of the first start would compile them.
$(DONE)/packages: $(DONE)/environment requirements.lock pyproject.toml
	@echo "[2/5] Python packages (about 3 GB the first time) ..."
	@flock Makefile sh -euc '\
		options="--python $(PYTHON) --build-constraints requirements.lock $$([ -t 2 ] || echo --quiet)"; \
		[ ! -e $@.begun ] || find .venv/lib/python3.12/site-packages -mindepth 1 -maxdepth 1 \
			! -name "*.pth" ! -name pip ! -name "pip-*" ! -name uv ! -name "uv-*" -exec rm -rf {} +; \
		touch $@.begun; \
		$(UV) pip sync $$options --require-hashes requirements.lock; \
		$(UV) pip install --quiet $$options --no-deps --editable .; \
		PYTHONDONTWRITEBYTECODE= TRANSFORMERS_VERBOSITY=error $(PYTHON) -c "import importlib; [importlib.import_module(name) for name in \"$(SERVED)\".split()]"; \
		rm $@.begun; touch $@'

$(DONE)/triton: $(DONE)/packages images/lay_out_triton.py images/triton.lock
	@echo "[3/5] Triton ..."
	@$(PYTHON) images/lay_out_triton.py
	@touch $@

$(DONE)/whisper: $(DONE)/triton deployments/whisper/weights.py deployments/whisper/backends/ct2_import.py deployments/whisper/weights.lock
	@echo "[4/5] Whisper tiny.en ..."
	@$(PYTHON) -m deployments.whisper.weights tiny.en
	@touch $@

# Set PYTHON_3_12, or stop make with one sentence that names the missing part.
find-python = $(eval PYTHON_3_12 := $(shell $(FIND_PYTHON)))$(if $(filter !%,$(PYTHON_3_12)),$(error Sonograph needs $(PYTHON_3_12:!%=%)))

define FIND_PYTHON
[ "$$(uname -sm)" = "Linux x86_64" ] || { echo "!x86-64 Linux"; exit; }; \
case "$$PWD" in *[[:space:]]*) echo "!a folder without a space in its path, since Triton cannot start Python from one"; exit;; esac; \
for tool in git curl; do command -v $$tool >/dev/null || { echo "!$$tool on PATH"; exit; }; done; \
lacks="Python 3.12, as python3.12 or python3 on PATH or among the versions of pyenv"; \
for python in python3.12 python3 "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.12*/bin/python3.12; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null || continue; \
	"$$python" -c 'import venv, ensurepip' 2>/dev/null || { lacks="the venv module of $$python (on Debian and Ubuntu: apt install python3.12-venv)"; continue; }; \
	"$$python" -c '$(LOAD_LIBPYTHON)' 2>/dev/null || { lacks="libpython3.12.so.1.0 for $$python (on Debian and Ubuntu: apt install libpython3.12; with pyenv: --enable-shared)"; continue; }; \
	echo "$$python"; exit; \
done; echo "!$$lacks"
endef

# Triton runs Python through this library.
LOAD_LIBPYTHON = import ctypes, os, sysconfig as s; n = "libpython3.12.so.1.0"; os.path.exists(os.path.join(s.get_config_var("LIBDIR"), n)) or ctypes.CDLL(n)
