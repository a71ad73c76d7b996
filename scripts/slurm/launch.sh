# shellcheck shell=bash
# Shared by train.sbatch and sweep.sbatch: one run in a job, from its start to its exit code. Source it in the checkout,
# then call `train_run ATTEMPTS OVERRIDE...`; ATTEMPTS is a file with the attempts of the run (mixlaw/runs/ledger.py).
#
# One task per GPU: srun starts the ranks. One task per node and several GPUs: torchrun starts one rank per GPU.
#   exit 75          saved after a signal: the job is requeued and resumes the run
#   signal (> 128)   requeued as well, but at most MIXLAW_TRIES times (2)
#   others           the job's exit code: 0 COMPLETED, anything else FAILED
#
# MIXLAW_PYTHON   command of python, e.g. 'apptainer exec --nv mixlaw.sif python'; .venv/bin/python by default
# MIXLAW_SRUN     more options of srun, e.g. '--container-image=mixlaw.sqsh'

exec 3>&1 # for notices; the run's own output goes elsewhere
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID} # the id of an array task can equal that of the whole array
step=''
warned=0

notice() {
    echo "$(date '+%F %T') job $job on ${SLURM_JOB_NODELIST:-?}: $*" >&3
}

relay() { # tell the run to save: srun forwards USR2, but kills the run on TERM
    warned=1
    [ -z "$step" ] || kill -USR2 "$step" 2>/dev/null || true
}

command_of() { # store the command of this run in the array `words`
    local python more port first
    read -ra python <<<"${MIXLAW_PYTHON:-.venv/bin/python}"
    read -ra more <<<"${MIXLAW_SRUN:-}"
    words=(srun --kill-on-bad-exit=1 "${more[@]}")
    if [ "${SLURM_GPUS_ON_NODE:-0}" -gt 1 ] && [ "${SLURM_NTASKS:-1}" -eq "${SLURM_JOB_NUM_NODES:-1}" ]; then
        first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
        port=$((10000 + SLURM_JOB_ID % 10000))
        words+=("${python[@]}" scripts/slurm/torchrun.py --nnodes="${SLURM_JOB_NUM_NODES:-1}"
            --nproc-per-node="$SLURM_GPUS_ON_NODE" --rdzv-backend=c10d --rdzv-endpoint="$first:$port"
            --rdzv-id="$job" -m)
    else
        words+=("${python[@]}" -m)
    fi
    words+=(train "$@")
}

run_step() { # run `words` in the background, because bash runs traps only between commands; set `code`
    "${words[@]}" &
    step=$!
    while kill -0 "$step" 2>/dev/null; do
        wait "$step" || true # a trap interrupts wait, not the run
    done
    code=0
    wait "$step" || code=$?
    step=''
}

own_code() { # $1: offset of this attempt in the log, $2: the seal of a finished run
    # srun returns the highest code, including those of tasks that it killed because another one failed
    local log told=''
    log=$(readlink "/proc/$$/fd/2")
    if [ "$code" -ne 0 ] && [ -f "$log" ]; then
        told=$(tail -c "+$(($1 + 1))" "$log" | awk '
            /^srun: .*: Exited with exit code [0-9]+$/ && $NF > 1 && $NF < 128 && $NF > own { own = $NF }
            /^srun: .*: (Killed|Out Of Memory)/ && !ending { first = 137 }
            /^srun: .*: Segmentation fault/ && !ending { first = 139 }
            /^srun: .*: Terminated/ && !ending { first = 143 }
            /^srun: .*Terminating StepId/ { ending = 1 }
            END { print own ? own : first }')
    fi
    code=${told:-$code}
    if [ "$code" -eq 1 ] || [ "$code" -gt 128 ]; then # a crash: of a finished run, a stopped run, or a real failure
        if [ -f "$2" ]; then
            notice "crashed with $code when the run was over already"
            code=$(grep -q '"status": "finished"' "$2" && echo 0 || echo 76)
        elif [ "${told:-0}" -eq 143 ] || { [ "$warned" -eq 1 ] && [ "$code" -gt 128 ]; }; then
            code=75 # stopped before it could save: its last checkpoint is valid
        fi
    fi
}

put_back() { # requeue the job; $1: why
    local state
    state=$(scontrol show job "$job" 2>/dev/null | sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p' | head -n 1)
    if [ "$state" != RUNNING ]; then
        notice "$1; not put back by itself, as it is $state"
    elif scontrol requeue "$job"; then
        notice "$1; put back into the queue"
    else
        notice "$1; it could not be put back into the queue: submit it again"
    fi
}

train_run() { # ATTEMPTS OVERRIDE...: train, then exit with the run's code
    local attempts=$1 begin=0 code=0 kills words=()
    shift
    export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # since 22.05 srun does not inherit it from the job
    command_of "$@"
    begin=$(stat -L -c %s "/proc/$$/fd/2" 2>/dev/null || echo 0)
    [ -z "$(tail -c 1 "$attempts" 2>/dev/null)" ] || echo >>"$attempts" # end a line that a crash truncated
    printf '{"event":"start","time":%d,"where":"slurm %s on %s","job":"%s"}\n' \
        "$(date +%s)" "$job" "${SLURM_JOB_NODELIST:-?}" "$job" >>"$attempts"
    trap relay USR1 USR2 TERM
    run_step
    own_code "$begin" "$(dirname "$attempts")/done.json"
    printf '{"event":"end","time":%d,"code":%d,"job":"%s"}\n' "$(date +%s)" "$code" "$job" >>"$attempts"
    kills=$(grep -cE "\"code\":(129|1[3-9][0-9]|2[0-9][0-9]),\"job\":\"$job\"" "$attempts" || true)
    if [ "$code" -eq 75 ]; then
        put_back "saved after a signal"
    elif [ "$code" -gt 128 ] && [ "$kills" -le "${MIXLAW_TRIES:-2}" ]; then
        put_back "killed by signal $((code - 128))"
    elif [ "$code" -ne 0 ]; then
        notice "failed with exit code $code"
    fi
    exit "$code"
}
