#!/usr/bin/env bash
# Runs the tests; installs what they need first. Arguments go to pytest.
#
#   bash launch/test.sh                     # those that take seconds each
#   bash launch/test.sh -m "not slow"       # all but the slow ones, as .ci/run
#   bash launch/test.sh tests/test_main.py
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
prepare requirements.txt requirements-test.txt
cd "$root"
# Whole files to each process, for their fixtures are made once, in the order of
# tests/conftest.py. The slowest are named at the end.
[[ $# -gt 0 ]] && chosen="not slow" || chosen="not slow and not ci"
exec "$venv/bin/python" -m pytest -q -m "$chosen" --durations=10 \
  -n auto --maxprocesses=4 --dist loadfile --no-loadscope-reorder "$@"
