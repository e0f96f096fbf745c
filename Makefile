# make demo   a recording through the live node, pictures and a report in demo_out/
# make test   every test (make test-fast: two minutes)
# make help   the rest
PYTHON ?= python3
OUT ?= demo_out
BIN := .venv/bin

# Tests and demos talk over this machine only, on a domain of their own, and messages check the types of what is put into them.
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
export ROS_STATIC_PEERS := 127.0.0.1
export ROS_DOMAIN_ID ?= $(shell echo $$(( $$$$ % 90 + 10 )))
export ROS_LOG_DIR := $(CURDIR)/build/ros_log

# $(call quiet,what,command): print what is done; the command's output only if it fails
quiet = echo "$(1)"; mkdir -p build; if ! ( $(2) ) >build/make.log 2>&1; then cat build/make.log >&2; echo "failed: $(1)" >&2; exit 1; fi

.PHONY: help setup demo test test-fast fuzz soak lint settings bench gpu-check clean

help:
	@echo "make setup   the environment in .venv (PYTHON=$(PYTHON); once: 2.6 GB on disk, a few minutes)"
	@echo "make demo    a recording through the live node over DDS; result in $(OUT)/"
	@echo "             on your own files: make demo CLOUDS=dir IMAGES=dir [WITHOUT=dir]"
	@echo "make test    every test; ARGS=\"test/geometry -k planes\" for some"
	@echo "make test-fast   the tests without those marked slow, dds or train (two minutes)"
	@echo "make fuzz    100000 malformed messages through the readers of messages; ARGS=\"--count N --seed N\""
	@echo "make soak    30 minutes of live traffic, 64 subscribers: memory, handles, latency; ARGS=\"--seconds N\""
	@echo "make lint    ruff, codespell, and mypy on the whole package"
	@echo "make settings   config/coseg.yaml and docs/parameters.md, written from the settings in the code"
	@echo "make bench   cost of message handling"
	@echo "make gpu-check   on a GPU: parity, latency, memory, one training; elsewhere it prints \"no GPU\""
	@echo "make clean   remove what was built; the environment too: make clean ALL=1"

setup: .venv/geoseg.stamp
	@:

.venv/packages.stamp: requirements/core.txt requirements/ros.txt requirements/dev.txt
	@command -v "$(PYTHON)" >/dev/null || { echo "geoseg_ros needs Python 3.10 to 3.13, and there is no $(PYTHON): make PYTHON=... " >&2; exit 1; }
	@"$(PYTHON)" requirements/system.py
	@$(call quiet,setting up .venv (once; a few minutes),"$(PYTHON)" -m venv .venv && \
	  $(BIN)/python -m pip install --disable-pip-version-check $(foreach f,$^,-r $(f)))
	@touch $@

.venv/geoseg.stamp: .venv/packages.stamp CMakeLists.txt package.xml pyproject.toml setup.py $(wildcard cmake/* msg/*.msg srv/*.srv launch/* config/*)
	@$(call quiet,building the ROS 2 messages,$(BIN)/python -m pip install --disable-pip-version-check --no-build-isolation --no-deps -e .)
	@touch $@

demo: setup
	@$(BIN)/geoseg demo --out "$(OUT)" $(if $(CLOUDS),--clouds "$(CLOUDS)") $(if $(IMAGES),--images "$(IMAGES)") $(if $(WITHOUT),--without "$(WITHOUT)") $(ARGS)

test test-fast: export ROS_PYTHON_CHECK_FIELDS = 1
# on every core, one thread each; what talks over DDS measures time, so it comes after the rest and alone
PARALLEL := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test: setup
ifdef ARGS
	@$(BIN)/python -m pytest $(ARGS)
else
	@$(PARALLEL) -m "not dds"; first=$$?; $(BIN)/python -m pytest -m dds && exit $$first
endif

test-fast: setup
	@$(PARALLEL) -m "not slow and not dds and not train" $(ARGS)

fuzz: setup
	@PYTHONPATH=test $(BIN)/python -m support.fuzz_messages $(ARGS)

soak: setup
	@PYTHONPATH=test $(BIN)/python -m support.stress_delivery --seconds 1800 --listeners 64 --profile config/fastdds_shm.xml $(ARGS)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/codespell
	@$(BIN)/mypy geoseg_ros

settings: setup
	@$(BIN)/python tools/generate_settings.py $(ARGS)

bench: setup
	@$(BIN)/geoseg bench $(ARGS)

gpu-check: setup
	@$(BIN)/python -m benchmarks.gpu.check $(ARGS)

clean:
	@rm -rf build install log demo_out .pytest_cache .mypy_cache .ruff_cache *.egg-info $(if $(ALL),.venv)
	@find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
