# Thin on purpose: scripts/dev.py does the work, also where there is no make.
# ARGS is handed on:  make demo ARGS="--events 100000"    make test ARGS="-k parser"
# PYTHON names the Python that .venv is made with, instead of the newest found.

ARGS ?=
export PYTHON

.PHONY: help setup demo test soak check lint clean

help:
	@echo "make demo    run the demo (makes what it needs first)"
	@echo "make test    run the tests"
	@echo "make soak    simulations, faults and drawn histories, for an hour or so, with figures"
	@echo "make check   ruff, pyright, lint-imports, then the tests"
	@echo "make lint    as check, without the tests"
	@echo "make setup   only make .venv with everything a developer needs"
	@echo "make clean   remove .venv and the caches"

setup demo test soak check lint clean:
	@sh scripts/dev.sh $@ $(ARGS)
