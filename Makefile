# `make demo` and `make test` need Python 3.11 or later, pip, gcc, make and git, and nothing else. They run the commands of README.md.
# `make models` trains the example networks again (models/manifest.toml), JOBS side by side: an hour on two cores. It needs apt-get
# (with its lists: apt-get update) and npm for the data.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
MODEL := models/fashion_rep

.PHONY: demo test models clean

# Reinstalled when the dependencies or entry points may have changed; the code itself is used from where it is.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

demo: .venv/installed
	$(BIN)/graphopt run $(MODEL)/fashion_rep.onnx --passes fold,prune:macs=0.75:multiple=8,quant \
		--data $(MODEL)/calib.npz --labels $(MODEL)/test.npz --target ort-x86-vnni -o fashion_rep.opt.onnx --force
	@echo
	@echo "fashion_rep.opt.onnx in onnxruntime, accuracy on the 2,000 test images:"
	$(BIN)/python -m models.fashion_rep.evaluate fashion_rep.opt.onnx

test: .venv/installed
	$(BIN)/python -m pytest -q

# The committed files are overwritten. One network: .venv/bin/python -m models.retrain NAME
JOBS ?= 2
models: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[models]"
	$(BIN)/python -m models.retrain --jobs $(JOBS)

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis fashion_rep.opt.onnx
