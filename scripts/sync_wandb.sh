#!/usr/bin/env bash
# Sends runs that were mirrored offline, and fits of scripts.wandb_fit, to Weights & Biases, from a machine with a network
# that sees the same folders under the same paths.
#   scripts/sync_wandb.sh runs/quickstart
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 runs/STUDY" >&2; exit 2; }
study=$1
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
wandb=$(command -v wandb || command -v "$checkout/.venv/bin/wandb") ||
    { echo "no wandb on PATH, nor in $checkout/.venv: pip install -e '.[train]' there" >&2; exit 2; }
found=$(find "$study" -type d -name 'offline-run-*' | sort)  # runs/STUDY/wandb, the fits, behind runs/STUDY/RUN_ID
[ -n "$found" ] || { echo "no offline W&B run below $study: train with logging=wandb and WANDB_MODE=offline" >&2; exit 2; }
while IFS= read -r run; do
    "$wandb" sync "$run"
done <<<"$found"
