#!/usr/bin/env bash
# Install the harness with vLLM's CPU build and the development tools into .venv.
# The one place that knows where torch's CPU wheel comes from:
#   - if PIP_FIND_LINKS names a folder of wheels, torch+cpu is taken from there;
#   - otherwise from PyTorch's own CPU index, which uv knows as a "torch backend".
# torchvision and its siblings stay out on a CPU: PyPI has only builds linked to CUDA, and with one of
# them installed beside torch's CPU build transformers dies at import. (A GPU box wants them:
# `pip install 'openweight-harness[gpu]'` leaves them in.)
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-python3}"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed, $("$python" --version) was found: set PYTHON to a newer one" >&2
    exit 2
}
[ -x .venv/bin/python ] || "$python" -m venv .venv
[ -x .venv/bin/uv ] || .venv/bin/python -m pip install --quiet uv

if [ -n "${PIP_FIND_LINKS:-}" ]; then
    torch_source=(--find-links "$PIP_FIND_LINKS")
else
    torch_source=(--torch-backend cpu)
fi

VIRTUAL_ENV="$PWD/.venv" .venv/bin/uv pip install --quiet "${torch_source[@]}" \
    --override scripts/cpu-overrides.txt --editable '.[cpu,dev,export,tasks]'
