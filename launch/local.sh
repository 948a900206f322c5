#!/usr/bin/env bash
# Trains and evaluates on this machine; installs what it needs first.
#
#   bash launch/local.sh --config=configs/grpo.py --workdir=runs/demo
#   bash launch/local.sh --config=configs/grpo.py:smoke     # three minutes
#   bash launch/local.sh --help
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
prepare requirements.txt
exec "$venv/bin/python" -m cooper_jax.main "$@"
