#!/usr/bin/env bash
# Installs and runs the linter and all tests; arguments go to pytest.
#
#   bash launch/test.sh [tests/losses -k siglip ...]
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/setup.sh

ruff check .
ruff format --check .
python -m pytest "$@"
