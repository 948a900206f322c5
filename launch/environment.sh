# shellcheck shell=bash
# Sourced by the scripts of this folder: makes .venv and fills it.
#
#   PYTHON  the interpreter to make it with (default: the first fit one)
#   VENV    where it is (default: .venv in the repository)

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${VENV:-$root/.venv}

fail() {
  echo "error: $*" >&2
  exit 2
}

is_fit() { # is_fit PYTHON: it runs, and is 3.11 or newer
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
  local candidate
  if [[ -n "${PYTHON:-}" ]]; then
    is_fit "$PYTHON" || fail "PYTHON=$PYTHON is no Python 3.11 or newer"
    echo "$PYTHON"
    return
  fi
  for candidate in python3 python3.12 python3.13 python3.11 python; do
    if is_fit "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  fail "no Python 3.11 or newer found; install one, or name it: PYTHON=/path bash $0"
}

# prepare FILE...: an environment with these requirements, made once.
prepare() {
  local stamp python file lock=""
  local install=()
  # Nodes that share a disk would make it over each other.
  if command -v flock >/dev/null && mkdir -p "$(dirname "$venv")"; then
    exec {lock}>"$venv.lock" && flock "$lock"
  fi
  for file in "$@"; do install+=(-r "$root/$file"); done
  if ! is_fit "$venv/bin/python"; then
    python=$(find_python) || exit 2
    echo "making $venv with $("$python" --version)" >&2
    "$python" -m venv --clear "$venv" || fail "$python can't make a virtual environment;" \
      "on Debian and Ubuntu: sudo apt install python3-venv"
  fi
  stamp=$venv/installed-$(cat "${@/#/$root/}" | cksum | tr ' ' '-')
  if [[ ! -e "$stamp" ]]; then
    echo "installing $* (about two minutes and 1 GB the first time)" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      "${install[@]}" || fail "installation failed, see above; mend it and run again"
    touch "$stamp"
  fi
  if [[ -n $lock ]]; then exec {lock}>&-; fi
  export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
}
