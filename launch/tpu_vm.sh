#!/usr/bin/env bash
# Runs training on all workers of a TPU VM or pod slice: copies this folder there, installs, trains.
# Workdir and data lie where every worker can read and write, such as a mounted Filestore share. The same
# command after a preemption continues the run.
#
#   bash launch/tpu_vm.sh [--dry-run] NAME ZONE --config=pretrain --workdir=/shared/runs/one
set -euo pipefail
run=()
[[ ${1:-} == --dry-run ]] && run=(print) && shift
print() { printf '%q ' "$@" && echo; }
if [[ $# -lt 3 || $1 == -* || $2 == -* ]]; then
    echo "usage: bash launch/tpu_vm.sh [--dry-run] NAME ZONE ARGUMENTS OF supclap train" >&2
    exit 2
fi
name=$1 zone=$2
shift 2
cd "$(dirname "$0")/.."

archive=$(mktemp -d)/supclap_jax.tar.gz
trap 'rm -r "$(dirname "$archive")"' EXIT
git archive --format=tar.gz --output="$archive" HEAD
on_all=(gcloud compute tpus tpu-vm)
"${run[@]}" "${on_all[@]}" scp "$archive" "$name:supclap_jax.tar.gz" --zone="$zone" --worker=all
"${run[@]}" "${on_all[@]}" ssh "$name" --zone="$zone" --worker=all --command="set -e
mkdir -p supclap_jax && tar -xzf supclap_jax.tar.gz -C supclap_jax && cd supclap_jax
source launch/setup.sh
python -m pip install --quiet libtpu==0.0.42.1
exec supclap train --distributed$(printf ' %q' "$@")"
