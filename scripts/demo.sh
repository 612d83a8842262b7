#!/usr/bin/env bash
# From nothing to an image: a venv, the doctor, the runtime that fits, the built-in model's export, a picture.
# Usage: bash scripts/demo.sh      PYTHON=python3.12 picks the interpreter. Everything lands in .venv-demo and demo/.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
venv=.venv-demo
bin=$venv/bin

step() { printf '\n== %s\n' "$*"; }

step "a venv and the base install"
[ -x "$bin/python" ] || "$python" -m venv "$venv"
"$bin/python" -m pip install -qq --upgrade pip
"$bin/python" -m pip install -qq --editable .

step "onnxsd doctor"
"$bin/onnxsd" doctor || true # not ready yet is what the next step is for

mkdir -p demo
"$bin/onnxsd" doctor --no-probe --json >demo/doctor.json || true
# What to install, one requirement a line: the GPU wheel that the doctor chose, or the CPU's where none serves.
"$bin/python" - demo/doctor.json >demo/requirements.txt <<'PYTHON'
import json
import sys
from pathlib import Path

best = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["recommendation"]
if best and best["suffices"]:
    extras = ",".join(best["extras"])
    print(f"{best['package']}[{extras}]=={best['version']}")
    print(*(name + limit for name, limit in best["companions"].items()), sep="\n")
PYTHON
if [ -s demo/requirements.txt ]; then
  step "install for the GPU: $(tr '\n' ' ' <demo/requirements.txt)"
  "$bin/python" -m pip install -qq --editable '.[run]' --requirement demo/requirements.txt
else
  step "install for the CPU"
  "$bin/python" -m pip install -qq --editable '.[cpu]'
fi
"$bin/onnxsd" doctor

step "export the built-in model: an SDXL small enough to ship, which draws shapes"
"$bin/onnxsd" export shapes demo/onnx --offline --force

step "generate"
"$bin/onnxsd" generate "a red circle on a white background" --model demo/onnx --seed 7 -o demo/image.png
echo "the picture is demo/image.png; \`onnxsd export sdxl ./out\` gets the model for other subjects"
