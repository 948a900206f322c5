#!/usr/bin/env bash
# Runs the tests; installs what they need first. Arguments go to pytest.
#
#   bash launch/test.sh                     # all that take seconds
#   bash launch/test.sh -m "not slow"       # with the dear ones, as .ci/run does
#   bash launch/test.sh tests/test_main.py
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
prepare requirements.txt requirements-test.txt
cd "$root"
# Whole files to each process, for their fixtures are made once, in the order of
# tests/conftest.py. The slowest are named at the end.
exec "$venv/bin/python" -m pytest -q -m "not slow and not ci" --durations=10 \
  -n auto --maxprocesses=4 --dist loadfile --no-loadscope-reorder "$@"
