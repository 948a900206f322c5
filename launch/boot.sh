#!/usr/bin/env bash
# What runs on every host of a TPU slice; launch/tpu.py calls it over ssh.
#
#   boot.sh setup                           an environment that sees the TPU
#   boot.sh start [--secret=VAR=NAME] -- ARGUMENTS OF cooper_jax.main
#   boot.sh poll | stop | logs LINES [follow]
#
# Every verb but logs ends with one line that the launcher reads:
#   cooper: host=H state=ready|idle|running|ended|lost [exit=N] [progress=P]
#
#   COOPER_HOME      where everything goes (default: ~/cooper)
#   COOPER_PLATFORM  what JAX has to find (default: tpu)
set -euo pipefail
set +x # a trace would show secrets

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P) # named by its commit
home=${COOPER_HOME:-$HOME/cooper}
run=$home/run
logs=$home/logs
export VENV=$home/venv
host=$(hostname)
uv_version=0.13.9

fail() {
  echo "error: $host: $*" >&2
  exit 2
}

report() { echo "cooper: host=$host $*"; }

# write FILE WORD: whole or not at all, since poll may read it meanwhile.
write() {
  echo "$2" >"$1.partial"
  mv "$1.partial" "$1"
}

# A number alone may by now be that of another process, after a restart.
is_alive() {
  [[ -e $run/pid ]] &&
    tr '\0' ' ' 2>/dev/null <"/proc/$(<"$run/pid")/cmdline" |
    grep -q cooper_jax.main
}

# The images have an older Python. Not the newest there is but one and the
# same on every host and every day, as the versions in pinned.txt.
find_pinned_python() {
  if [[ -n ${PYTHON:-} ]]; then
    echo "$PYTHON"
  elif python3.11 -c 'import ensurepip, venv' 2>/dev/null; then
    echo python3.11
  else
    [[ -x $home/bin/uv ]] ||
      curl -LsSf "https://astral.sh/uv/$uv_version/install.sh" |
      UV_INSTALL_DIR=$home/bin UV_NO_MODIFY_PATH=1 sh >&2
    "$home/bin/uv" python install --quiet 3.11 >&2
    "$home/bin/uv" python find --managed-python 3.11
  fi
}

# libtpu leaves its lock file when it is killed, and tells the next
# process to remove it, also where a living one holds it.
check_lock() {
  local lock=${LIBTPU_LOCK:-/tmp/libtpu_lockfile} holder
  local as=()
  [[ -e $lock ]] || return 0
  if sudo -n true 2>/dev/null; then as=(sudo -n); fi
  holder=$("${as[@]}" find /proc/[0-9]*/fd -lname "$(realpath "$lock")" \
    2>/dev/null | cut -d/ -f3 | sort -un | paste -sd' ' || true)
  [[ -z $holder ]] || fail "process $holder holds the TPU ($lock); stop it"
  if flock --nonblock "$lock" true 2>/dev/null; then
    "${as[@]}" rm -f "$lock"
  else
    fail "the TPU is held ($lock), by whom can't be seen"
  fi
}

setup() {
  local python
  if is_alive; then fail "a run lives (process $(<"$run/pid")); stop it first"; fi
  mkdir -p "$run" "$logs"
  python=$(find_pinned_python)
  export PYTHON=$python
  # shellcheck source=launch/environment.sh
  source "$root/launch/environment.sh"
  prepare launch/pinned.txt
  check_lock
  COOPER_PLATFORM=${COOPER_PLATFORM:-tpu} timeout 900 "$VENV/bin/python" -c '
import os, sys, jax
wanted, got = os.environ["COOPER_PLATFORM"], jax.default_backend()
if got != wanted:
  sys.exit(f"error: JAX found {got}, expected {wanted}")
print(f"jax {jax.__version__}, {jax.local_device_count()} devices here")'
  ln -sfn "$root" "$home/current"
  report state=ready
}

install_gcsfuse() {
  local list=/etc/apt/sources.list.d/gcsfuse.list
  local key=/usr/share/keyrings/cloud.google.asc
  local site=https://packages.cloud.google.com/apt
  curl -sSf "$site/doc/apt-key.gpg" | sudo tee "$key" >/dev/null
  echo "deb [signed-by=$key] $site gcsfuse-$(lsb_release -cs) main" |
    sudo tee "$list" >/dev/null
  # A machine that has just started may be updating itself.
  local wait=(-o DPkg::Lock::Timeout=300)
  sudo apt-get "${wait[@]}" update -qq &&
    sudo apt-get "${wait[@]}" install -qq -y gcsfuse >/dev/null
}

# reach gs://BUCKET/PATH: as a folder, since the program writes to folders.
reach() {
  local rest=${1#gs://} bucket mount
  bucket=${rest%%/*}
  mount=$home/gs/$bucket
  if ! mountpoint -q "$mount"; then
    command -v gcsfuse >/dev/null || install_gcsfuse >&2 ||
      fail "gcsfuse can't be installed; install it in the image"
    mkdir -p "$mount"
    gcsfuse --implicit-dirs "$bucket" "$mount" >&2 ||
      fail "can't mount gs://$bucket; may the service account read it?"
  fi
  echo "$home/gs/$rest"
}

# read_secret VARIABLE=NAME: from Secret Manager into the environment.
read_secret() {
  local value
  value=$(gcloud secrets versions access latest --secret="${1#*=}") ||
    fail "can't read secret ${1#*=}; give the service account" \
      "roles/secretmanager.secretAccessor"
  export "${1%%=*}=$value"
}

start() {
  local arguments=() workdir=""
  local secrets=()
  while [[ ${1:-} == --secret=* ]]; do
    secrets+=("${1#--secret=}")
    shift
  done
  [[ ${1:-} == -- ]] || fail "boot.sh start [--secret=VAR=NAME] -- ARGUMENTS"
  shift
  if is_alive; then fail "a run lives (process $(<"$run/pid")); stop it first"; fi
  check_lock
  for word; do
    if [[ $word == --workdir=gs://* ]]; then
      word=--workdir=$(reach "${word#--workdir=}")
    fi
    if [[ $word == --workdir=* ]]; then workdir=${word#--workdir=}; fi
    arguments+=("$word")
  done
  for secret in "${secrets[@]}"; do read_secret "$secret"; done
  mkdir -p "$run" "$logs"
  rm -f "$run/pid" "$run/exit-code"
  write "$run/workdir" "$workdir"
  local log
  log=$logs/$host.$(date -u +%Y%m%dT%H%M%S.%3NZ).log
  ln -sfn "$log" "$run/log"
  # In a session of its own it outlives the ssh connection.
  setsid nohup bash "$root/launch/boot.sh" supervise "${arguments[@]}" \
    >"$log" 2>&1 </dev/null &
  for _ in {1..100}; do
    # It has a number before it is the program.
    if is_alive || [[ -e $run/exit-code ]]; then break; fi
    sleep 0.1
  done
  [[ -e $run/pid ]] || fail "it did not start; see $log"
  poll
}

# supervise ARGUMENTS: runs the program and keeps how it ended.
supervise() {
  local child code workdir
  cd "$root"
  COOPER_COMMIT=$(basename "$root")
  export COOPER_COMMIT COOPER_DISTRIBUTED=1 PYTHONPATH=$root PYTHONUNBUFFERED=1
  echo "host $host, commit $COOPER_COMMIT"
  "$VENV/bin/python" -m cooper_jax.main "$@" &
  child=$!
  # A machine that goes down tells this process, too; the other one saves.
  trap 'kill -TERM "$child" 2>/dev/null || true' TERM INT
  write "$run/pid" "$child"
  while :; do
    code=0
    wait "$child" || code=$?
    kill -0 "$child" 2>/dev/null || break
  done
  echo "host $host, exit code $code"
  workdir=$(<"$run/workdir")
  if [[ -d $workdir ]]; then
    # The machine may be gone before anyone has read it.
    timeout 60 mkdir -p "$workdir/logs" &&
      timeout 60 cp "$(realpath "$run/log")" "$workdir/logs/" || true
  fi
  write "$run/exit-code" "$code"
}

# Finished stages and the newest checkpoint of each: another text, progress.
progress() {
  local workdir stage newest path step
  workdir=$(cat "$run/workdir" 2>/dev/null) || return 0
  [[ -n $workdir ]] || return 0
  cd "$root"
  for stage in "$workdir"/*/; do
    newest=""
    if grep -qs '"finished": true' "$stage/stage.json"; then newest=finished; fi
    for path in "$stage"checkpoints/*/; do
      step=$(basename "$path")
      if [[ $step =~ ^[0-9]+$ && $newest != finished ]] &&
        ((step >= ${newest:-0})); then newest=$step; fi
    done
    [[ -z $newest ]] || printf '%s:%s,' "$(basename "$stage")" "$newest"
  done
}

poll() {
  local state=idle
  if is_alive; then
    state=running
  elif [[ -e $run/exit-code ]]; then
    state="ended exit=$(<"$run/exit-code")"
  elif [[ -e $run/pid ]]; then
    state=lost # the host was restarted under it
  fi
  report "state=$state progress=$(progress)"
}

# Asks first: what is asked to end saves its state.
stop() {
  local patience=${COOPER_PATIENCE:-120} pid
  if is_alive; then
    pid=$(<"$run/pid")
    kill -TERM "$pid"
    for ((i = 0; i < patience * 10; i++)); do
      is_alive || break
      sleep 0.1
    done
    if is_alive; then kill -KILL "$pid"; fi
    for _ in {1..50}; do
      [[ ! -e $run/exit-code ]] || break
      sleep 0.1
    done
  fi
  poll
}

logs() {
  local follow=()
  [[ ${2:-} != follow ]] || follow=(-F)
  [[ -e $run/log ]] || fail "no run was started here"
  tail -n "$1" "${follow[@]}" "$(realpath "$run/log")"
}

case ${1:-} in
setup | start | supervise | poll | stop | logs) "$@" ;;
*) fail "boot.sh setup | start | poll | stop | logs" ;;
esac
