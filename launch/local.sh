#!/usr/bin/env bash
# Starts N processes of one command on this machine and returns the first exit code that is not 0.
# When one process dies, the others end by themselves. SIGTERM and Ctrl-C go to all. On a machine with
# GPUs, process i takes the i-th.
#
#   bash launch/local.sh 2 train --config=soundscape:dynamic --workdir=runs/two \
#       --config.data.path=runs/soundscape
set -euo pipefail
if [[ ! ${1:-} =~ ^[1-9][0-9]*$ || $# -lt 2 ]]; then
    echo "usage: bash launch/local.sh N train|evaluate ARGUMENTS" >&2
    exit 2
fi
count=$1 command=$2
shift 2
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$PWD
cd "$root" && source launch/setup.sh
cd "$folder"

port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export JAX_COORDINATOR_ADDRESS=127.0.0.1:$port JAX_NUM_PROCESSES=$count
processes=()
for ((i = 0; i < count; i++)); do
    JAX_PROCESS_ID=$i JAX_LOCAL_DEVICE_IDS=$i supclap "$command" --distributed "$@" &
    processes+=($!)
done
trap 'kill -TERM "${processes[@]}" 2> /dev/null' TERM INT

code=0
for process in "${processes[@]}"; do
    status=0
    while kill -0 "$process" 2> /dev/null; do wait "$process" && status=0 || status=$?; done
    ((code)) || code=$status
done
exit "$code"
