#!/usr/bin/env bash
# Installs and runs the linter and all tests; with --fast those that a developer runs, of every part,
# without the ones that are marked slow. Other arguments go to pytest.
#
#   bash launch/test.sh [--fast] [tests/losses -k siglip ...]
set -euo pipefail
cd "$(dirname "$0")/.."
chosen=()
[[ ${1:-} == --fast ]] && chosen=(-m "not slow") && shift
source launch/setup.sh

# For the page, approximate search, ONNX and buckets; tests of what cannot be had are skipped.
if ! cmp -s requirements-extras.txt .venv/extras.txt; then
    if python -m pip install --quiet --disable-pip-version-check --no-deps \
        -r requirements-extras.txt; then
        cp requirements-extras.txt .venv/extras.txt
    else
        echo "requirements-extras.txt is not to be had here; tests that need it are skipped"
    fi
fi

ruff check .
ruff format --check .
# Compiles for TPUs without one. Beside the environment, since with it JAX looks for a TPU at every
# start; the tests that need it are skipped where it cannot be had.
if [ ! -d .venv/libtpu ]; then
    python -m pip install --quiet --disable-pip-version-check --no-deps --target .venv/libtpu \
        libtpu==0.0.42.1 || echo "libtpu is not to be had here; tests that compile for TPUs are skipped"
fi
# Files of tests in parallel, the longest first: most of the time goes into compilations, of one
# processor each.
PYTHONPATH=$PWD/.venv/libtpu python -m pytest --numprocesses=auto --maxprocesses=4 \
    --dist=loadfile --no-loadscope-reorder "${chosen[@]}" "$@"
