# busmap: every command a user or a developer needs. `make` alone lists them.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION := 0.13.9
BIN := .venv/bin
TRAIN_BIN := .venv-train/bin
PEERS := dcmtk dicom3tools postgresql orthanc orthanc-dicomweb tesseract-ocr tesseract-ocr-eng fonts-dejavu-core strace bubblewrap prometheus systemd
VIEWERS := $(PEERS) orthanc-webviewer chromium fonts-dejavu-core nginx-light
BUILDERS := debootstrap buildah bubblewrap binutils
OHIF := 3.13.2
# uv writes its cache outside the work tree and links from it: a second set-up takes seconds.
export UV_LINK_MODE := copy
UV_INSTALL := uv pip install --quiet
RUN := env -u BUSMAP_CONFIG

# Installs Debian packages that are not there yet, and keeps the services that come with them from running.
define install
@dpkg -s $(1) >/dev/null 2>&1 && echo "Installed already: $(1)" || \
  { as_root=$$([ "$$(id -u)" = 0 ] || echo sudo); $$as_root apt-get update -qq && \
    $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) >/dev/null && \
    { for one in orthanc postgresql prometheus nginx; do $$as_root service $$one stop >/dev/null 2>&1 || true; done; } && echo "Installed: $(1)"; }
endef

.PHONY: help setup setup-train setup-video setup-docs setup-chart peers viewers builders map demo test test-all lint licences sbom advisories bundle bench docs site lock clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/ready ## the product's environment (.venv): no torch, no CUDA
setup-train: .venv-train/ready ## the environment for training (.venv-train): the same plus torch and monai

.venv/ready: requirements.txt requirements-uv.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info < (3, 14)))' || \
	  { echo "busmap needs Python 3.11 to 3.13 and found $$($(PYTHON) --version): make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up .venv (about 110 packages, no torch, once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt
	@$(BIN)/$(UV_INSTALL) --python $(BIN)/python --require-hashes -r requirements.txt
	@$(BIN)/$(UV_INSTALL) --python $(BIN)/python --no-deps --no-build-isolation -e .
	@$(BIN)/python -c pass # holoscan's wheel makes its links at the first start
	@touch $@ && echo "Set up: $$($(BIN)/python --version), busmap in $(BIN)/busmap"

.venv-train/ready: requirements.txt requirements-uv.txt requirements-train.txt pyproject.toml
	@echo "Setting up .venv-train (torch first, then the rest) ..."
	@test -x $(TRAIN_BIN)/python || $(PYTHON) -m venv .venv-train
	@$(TRAIN_BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt
	@$(TRAIN_BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@$(TRAIN_BIN)/$(UV_INSTALL) --python $(TRAIN_BIN)/python --no-deps --require-hashes -r requirements-train.txt
	@$(TRAIN_BIN)/$(UV_INSTALL) --python $(TRAIN_BIN)/python --no-deps --no-build-isolation -e .
	@$(TRAIN_BIN)/python -c pass
	@touch $@ && echo "Set up: .venv-train"

setup-video: setup ## the extra `video`: a decoder of video syntaxes in the product's environment
	@$(BIN)/$(UV_INSTALL) --python $(BIN)/python --no-deps --require-hashes -r requirements-video.txt

setup-docs: setup ## the extra `docs`: the generator of the documentation's site, in the product's environment
	@$(BIN)/$(UV_INSTALL) --python $(BIN)/python --no-deps --require-hashes -r requirements-docs.txt

peers: ## Debian's DICOM programs that tests talk to
	$(call install,$(PEERS))

setup-chart: setup ## Helm's own engine and Kubernetes' schemas, for the tests of the chart
	@$(BIN)/$(UV_INSTALL) --python $(BIN)/python --no-deps --require-hashes -r tests/packaging/chart-requirements.txt

viewers: setup .viewers/package/dist/index.html ## the viewers that tests look through: OHIF, Orthanc's, Chromium, Playwright
	$(call install,$(VIEWERS))
	@$(BIN)/$(UV_INSTALL) --python $(BIN)/python --require-hashes -r tests/viewer/requirements.txt

.viewers/package/dist/index.html: tests/viewer/ohif.sha512
	@command -v npm >/dev/null || { echo "npm is not installed: apt-get install npm"; exit 1; }
	@mkdir -p .viewers && cd .viewers && npm pack --silent @ohif/app@$(OHIF) >/dev/null && \
	  sha512sum --quiet -c ../tests/viewer/ohif.sha512 && tar -xzf ohif-app-$(OHIF).tgz && rm ohif-app-$(OHIF).tgz && \
	  touch package/dist/index.html && echo "Unpacked: OHIF $(OHIF)"

builders: ## Debian's programs that build the container image and run it in tests
	$(call install,$(BUILDERS))

map: setup builders ## the container image, a MONAI Application Package: build/map/busmap.oci.tar
	@as_root=$$([ "$$(id -u)" = 0 ] || echo sudo -E); $$as_root $(BIN)/python packaging/map/build.py $(MAP_ARGS)

demo: setup ## six studies through gateway, worker and a small PACS on this machine
	@$(RUN) $(BIN)/python -m app.demo

test: setup ## the tests; those that train run in .venv-train where it is set up
	$(RUN) $(BIN)/python -m pytest -m "not slow and not train and not viewer" $(PYTEST_ARGS)
	@if [ -e .venv-train/ready ]; then echo "$(RUN) $(TRAIN_BIN)/python -m pytest -m '(train or video) and not slow'"; \
	  $(RUN) $(TRAIN_BIN)/python -m pytest -m "(train or video) and not slow" $(PYTEST_ARGS); \
	else echo "Tests that train are left out: make setup-train installs what they need"; fi

test-all: setup setup-train setup-docs viewers builders ## the tests of `make test` and the long ones
	$(RUN) $(BIN)/python -m pytest -m "not train" $(PYTEST_ARGS)
	$(RUN) $(TRAIN_BIN)/python -m pytest -m "train or video" $(PYTEST_ARGS)

lint: setup ## ruff, mypy strict, import direction, docs in step
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python packaging/supply/licences.py --environment .venv

SUPPLY := $(BIN)/python packaging/supply
licences: setup ## the licence report of what the product requires: build/licences.md; fails on one not allowed
	@mkdir -p build
	$(SUPPLY)/licences.py --environment .venv -o build/licences.md

sbom: setup ## the bill of materials of what the product requires: build/busmap.cdx.json
	@mkdir -p build
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} $(SUPPLY)/sbom.py --environment .venv -o build/busmap.cdx.json

advisories: setup ## known weaknesses of what the product requires, from a database on disk: DB=FOLDER
	$(SUPPLY)/advisories.py --environment .venv $(if $(DB),--database "$(DB)")

IMAGE ?= build/map/busmap.oci.tar
bundle: setup ## the bundle for a machine without a network: KEY=PRIVATE.pem [IMAGE=ARCHIVE] [DB=FOLDER]
	@test -n "$(KEY)" || { echo "give the private key: make bundle KEY=private.pem (docs/supply-chain.md)"; exit 1; }
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} $(SUPPLY)/airgap.py "$(IMAGE)" --key "$(KEY)" \
	  --out "build/$$($(BIN)/busmap --version | tr ' ' '-')-bundle" $(if $(DB),--database "$(DB)")

bench: setup ## the figures of the README, measured here
	@$(RUN) $(BIN)/python -m app.bench

docs: setup ## the generated pages under docs/
	$(BIN)/busmap config --markdown > docs/settings.md
	$(BIN)/python -m app.cli --markdown > docs/cli.md
	$(BIN)/python -m app.web.metrics > docs/metrics.md
	$(BIN)/python -m app.conformance > docs/conformance.md
	@command -v dot >/dev/null || echo "docs/data-way.svg is left as it is: apt-get install graphviz draws it"
	@! command -v dot >/dev/null || dot -Tsvg docs/data-way.dot -o docs/data-way.svg

site: setup-docs ## the documentation as a site in site/: open site/index.html, no server and no Internet needed
	$(BIN)/python -m zensical build --clean --strict -f .mkdocs.yml

lock: ## the dependency lists with hashes, from pyproject.toml
	echo "uv==$(UV_VERSION)" | $(BIN)/uv pip compile --quiet - --universal --python-version 3.11 \
	  --no-deps --generate-hashes --no-header --no-annotate -o requirements-uv.txt
	@printf '%s\n' "perf-analyzer ; sys_platform == 'never'" "cupy-cuda13x ; sys_platform == 'never'" \
	  "cuda-python ; sys_platform == 'never'" "torch ; sys_platform == 'never'" > .venv/overrides.txt
	$(BIN)/uv pip compile --quiet pyproject.toml --extra test --extra lint --extra supply --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate --override .venv/overrides.txt -o requirements.txt
	$(BIN)/uv pip compile --quiet pyproject.toml --extra test --extra train --extra supply --extra video --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate --override .venv/overrides.txt -c requirements.txt -o requirements-train.txt
	sed -n 's/^video = \["\(.*\)"\]/\1/p' pyproject.toml | $(BIN)/uv pip compile --quiet - --universal --python-version 3.11 \
	  --no-deps --generate-hashes --no-header --no-annotate -c requirements-train.txt -o requirements-video.txt
	sed -n 's/^docs = \["\(.*\)"\]/\1/p' pyproject.toml | $(BIN)/uv pip compile --quiet - --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate -c requirements.txt -o requirements-docs.txt

clean: ## environments and caches
	rm -rf .venv .venv-train .viewers build site .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
