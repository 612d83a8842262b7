#!/usr/bin/env bash
# Install what the tests need into .venv-test, then run the linter, the types and the tests, all three.
# Usage: bash scripts/test.sh [pytest arguments]      PYTHON=python3.12 picks the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
venv=.venv-test
bin=$venv/bin

wanted=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
made=$("$bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true)
if [ "$made" != "$wanted" ]; then
  echo "making $venv with Python $wanted"
  "$python" -m venv --clear "$venv"
fi

# Where there is a C++ compiler the native library has to compile, and no test that needs it skips.
library=onnxsd/kernels/_operators.so
has() { command -v "$1" >/dev/null; }
if [ "$(uname -s)" = Linux ] && { [ -n "${CXX:-}" ] || has c++ || has g++ || has clang++; }; then
  export ONNXSD_REQUIRE_NATIVE=${ONNXSD_REQUIRE_NATIVE:-1}
fi
required=${ONNXSD_REQUIRE_NATIVE:-0}

# Installed again only when what it depends on has changed, or the library is gone.
stamp=$venv/installed-from
state=$(cat setup.cfg setup.py pyproject.toml constraints.txt native/* onnxsd/kernels/cuda/* onnxsd/machine/built_from.py | cksum)
was=$(cat "$stamp" 2>/dev/null || true)
if [[ $was != "$state $required" || ($required = 1 && ! -e $library) ]]; then
  "$bin/python" -m pip install -qq --upgrade pip
  "$bin/python" -m pip install -qq --constraint constraints.txt --editable '.[cpu,reference,test]'
  echo "$state $required" >"$stamp"
fi

failed=0
"$bin/ruff" check . || failed=1
"$bin/mypy" || failed=1
# worksteal: neighbours, which share what a file makes once, stay together.
"$bin/python" -m pytest -n 2 --dist worksteal -q "$@" || failed=1
exit "$failed"
