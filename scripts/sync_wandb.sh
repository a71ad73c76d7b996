#!/usr/bin/env bash
# Uploads to Weights & Biases: runs mirrored offline, runs without W&B (from their logs), and fits of scripts.wandb_fit.
# Run it on a machine with a network that has the same folders under the same paths.
#   scripts/sync_wandb.sh runs/quickstart
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 runs/STUDY" >&2; exit 2; }
study=$1
late=0
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
wandb=$(command -v wandb || command -v "$checkout/.venv/bin/wandb") ||
    { echo "no wandb on PATH, nor in $checkout/.venv: pip install -e '.[train]' there" >&2; exit 2; }
if [ -n "$(find "$study" -maxdepth 2 -name run.json)" ]; then  # logs that no mirror has sent completely
    study=$(cd "$study" && pwd)
    python=$(command -v "$checkout/.venv/bin/python" || command -v python || command -v python3) ||
        { echo "no python in $checkout/.venv nor on PATH: pip install -e '.[train]' there" >&2; exit 2; }
    (cd "$checkout" && WANDB_MODE=offline "$python" -m train.late_mirror "$study") || late=1
fi
found=$(find "$study" -type d -name 'offline-run-*' | sort)  # runs/STUDY/wandb, the fits, behind runs/STUDY/RUN_ID
[ -n "$found" ] || { echo "no W&B run and no run log below $study" >&2; exit 2; }
while IFS= read -r run; do
    "$wandb" sync "$run"
done <<<"$found"
exit "$late"
