#!/usr/bin/env bash
# Installs, makes a data set, trains InfoNCE + DynamicSVR on it, evaluates. About 5 minutes on 2 cores.
#
#   bash launch/quickstart.sh [--config.KEY=VALUE ...]
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/setup.sh

data=runs/soundscape
workdir=runs/quickstart
supclap synthesize --out="$data" --clips=5000
supclap train --config=soundscape:dynamic --workdir="$workdir" \
    --config.data.path="$data" "$@"

cat <<'NEXT'

Try next:
  source .venv/bin/activate
  supclap embed --model=runs/quickstart --source=runs/soundscape/evaluation --out=runs/index
  supclap search --index=runs/index "a dog barks, then it rains"
NEXT
