#!/usr/bin/env bash
# Trains on the GPUs of this machine; installs what it needs first.
#
#   bash launch/gpu.sh --config=configs/grpo.py --workdir=runs/demo
#
# Several nodes: the same command on each, with a workdir that they share, and
#
#   COOPER_COORDINATOR=HOST:PORT  of the first node; any free port
#   COOPER_PROCESSES=N            how many nodes there are
#   COOPER_PROCESS=I              which of them this is, from 0
#
# Under Slurm they come from the job: srun --ntasks-per-node=1 bash launch/gpu.sh
#
#   CUDA  12 or 13 (default: what the driver supports)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

find_cuda() {
  local version
  version=$(nvidia-smi | grep -o 'CUDA Version: *[0-9]*' | grep -o '[0-9]*$') ||
    fail "nvidia-smi shows no CUDA version; set CUDA=12 or CUDA=13"
  if ((version >= 13)); then echo 13; else echo 12; fi
}

# What Slurm knows, in the words of cooper_jax.
ask_slurm() {
  local first
  [[ -z ${COOPER_COORDINATOR:-} && ${SLURM_NNODES:-1} -gt 1 ]] || return 0
  first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
  # Jobs that share a node need ports of their own.
  export COOPER_COORDINATOR=$first:$((20000 + SLURM_JOB_ID % 20000))
  export COOPER_PROCESSES=$SLURM_NNODES COOPER_PROCESS=$SLURM_NODEID
}

check_nodes() {
  local given=${COOPER_COORDINATOR:+1}${COOPER_PROCESSES:+1}${COOPER_PROCESS:+1}
  [[ -n $given ]] || return 0
  [[ $given == 111 ]] || fail "set all of COOPER_COORDINATOR, COOPER_PROCESSES" \
    "and COOPER_PROCESS, or none"
  [[ $COOPER_COORDINATOR == *:* ]] ||
    fail "COOPER_COORDINATOR is $COOPER_COORDINATOR; expected HOST:PORT"
  if ! [[ "$COOPER_PROCESSES $COOPER_PROCESS" =~ ^[0-9]+\ [0-9]+$ ]] ||
    ((COOPER_PROCESS >= COOPER_PROCESSES)); then
    fail "COOPER_PROCESS is $COOPER_PROCESS of $COOPER_PROCESSES;" \
      "allowed: 0 to one less than COOPER_PROCESSES"
  fi
}

ask_slurm
check_nodes
command -v nvidia-smi >/dev/null || fail "no nvidia-smi: no NVIDIA driver here"
cuda=${CUDA:-$(find_cuda)}
[[ $cuda == 12 || $cuda == 13 ]] || fail "CUDA is $cuda; allowed: 12, 13"
prepare requirements.txt "launch/cuda$cuda.txt"
"$venv/bin/python" -c '
import sys, jax
if jax.default_backend() != "gpu":
  sys.exit(f"error: JAX found {jax.default_backend()}, expected gpu")'
exec "$venv/bin/python" -m cooper_jax.main "$@"
