# make demo: from nothing to sharp pictures. make test: everything that CI runs. make check: lint and the quick tests.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
MIMO := $(BIN)/mimo
DEMO := demo
PHOTOGRAPHS := $(CURDIR)/mimo/photographs

.PHONY: demo test check lint install clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mimo needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cpu,torch,train,weights,tensorrt-rtx,serve,dev]'
	# Without its dependencies: torchvision, which it imports, comes for CUDA builds of torch only, and would bring one.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps spandrel einops torchvision
	# Without theirs: tritonclient 2.73 asks for older versions of protobuf and ml_dtypes, and runs with these.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps tritonclient python-rapidjson geventhttpclient gevent greenlet brotli zope.event zope.interface
	touch $@

# The four steps as a person types them, then the photographs. Verification ends with 3 where there is no GPU to run the
# engine on: passed as far as this machine can tell.
demo: $(VENV)/installed
	rm -rf $(DEMO)
	mkdir $(DEMO)
	cd $(DEMO) && $(MIMO) export --to onnx
	cd $(DEMO) && $(MIMO) build-engine --fp16
	cd $(DEMO) && { $(MIMO) verify --json verification.json || test $$? -eq 3; }
	cd $(DEMO) && $(MIMO) bench --sync --size 240x320 --max-seconds 10 --json bench.json --html bench.html
	cd $(DEMO) && $(MIMO) deblur $(PHOTOGRAPHS)/blur --model mimo-unet.onnx --out sharp
	cd $(DEMO) && $(MIMO) score sharp $(PHOTOGRAPHS)/sharp --protocol mimo --json score.json
	@echo
	@echo "sharp pictures:       $(DEMO)/sharp"
	@echo "FP16 engine:          $(DEMO)/mimo-unet.fp16.engine"
	@echo "verification report:  $(DEMO)/verification.json"
	@echo "latencies:            $(DEMO)/bench.html (numbers: bench.json)"

test: lint
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

# What runs in under two minutes on two cores; the tests marked slow are left to make test.
check: lint
	$(BIN)/python -m pytest -m 'not slow and not gpu'

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(DEMO) build dist
