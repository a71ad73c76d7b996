#!/usr/bin/env bash
# Sends runs that were mirrored offline, and fits of scripts.wandb_fit, to Weights & Biases, from a machine with a network
# that sees the same folders under the same paths.
#   scripts/sync_wandb.sh runs/quickstart
set -euo pipefail
study=${1:?which folder of runs}
found=$(find "$study" -type d -name 'offline-run-*' | sort)  # runs/STUDY/wandb, the fits, behind runs/STUDY/RUN_ID
[ -n "$found" ] || { echo "no offline W&B run below $study: train with logging=wandb and WANDB_MODE=offline" >&2; exit 2; }
while IFS= read -r run; do
    wandb sync "$run"
done <<<"$found"
