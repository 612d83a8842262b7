#!/usr/bin/env bash
# Make the source distribution and, from it, a manylinux_2_28 wheel for this machine's architecture, into dist/.
#
# Usage: bash scripts/build_wheels.sh [--container | --here]
#
#   --container  compile in the manylinux_2_28 container (docker or podman); IMAGE=name takes another image
#   --here       compile with the compiler at hand; CXX=name takes another than Python's own
#   neither      in a container where docker or podman answers, else here
#
# PYTHON=python3.12 picks the interpreter; the wheel serves every Python. Either way the result is read: a library
# that asks for more than every manylinux_2_28 system has is refused, and nothing is written. A compiler that is
# too new for that may still be used through zig, from pip, which compiles for an older glibc:
#   pip install ziglang; CXX="python -m ziglang c++ -target x86_64-linux-gnu.2.28" bash scripts/build_wheels.sh --here
#
# Tried: --here on x86-64, with GCC 12 on Debian 12 and with zig. Not tried: --container, with docker as with podman,
# and aarch64.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "build_wheels.sh: $*" >&2; }
fail() { say "$*"; exit 1; }

mode=${1:-}
case "$mode" in
  "" | --container | --here) ;;
  -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
  *) say "unknown option $mode; --help lists them"; exit 2 ;;
esac

arch=$(uname -m)
[ "$(uname -s)" = Linux ] || fail "makes Linux wheels, and this is $(uname -s)"
case "$arch" in
  x86_64 | aarch64) ;;
  *) fail "ONNX Runtime has CUDA wheels for x86_64 and aarch64, and this machine is $arch" ;;
esac
platform=manylinux_2_28_$arch
image=${IMAGE:-quay.io/pypa/$platform}

container=
for program in docker podman; do
  if "$program" info >/dev/null 2>&1; then
    container=$program
    break
  fi
done
if [ -z "$container" ] && [ "$mode" = --container ]; then
  fail "neither docker nor podman answers; --here compiles without them"
fi
[ "$mode" != --here ] || container=

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=.venv-wheels
bin=$venv/bin
[ -x "$bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
"$bin/python" -m pip install -qq --upgrade pip build wheel

"$bin/python" -m build --sdist --outdir "$work" . >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
sdist=$(basename "$work"/*.tar.gz)

# From the unpacked source distribution, so that nothing of this folder's build/ gets into the wheel.
if [ -n "$container" ]; then
  say "compiling in $image, by $container"
  owner=()
  [ "$container" = podman ] || owner=(--user "$(id -u):$(id -g)") # podman's root is this user already
  "$container" run --rm "${owner[@]}" --env HOME=/tmp --env ONNXSD_REQUIRE_NATIVE=1 --volume "$work:/io:Z" \
    "$image" /opt/python/cp312-cp312/bin/python -m pip wheel -q --no-deps --wheel-dir /io "/io/$sdist"
else
  say "compiling here, with ${CXX:-the compiler at hand}"
  ONNXSD_REQUIRE_NATIVE=1 "$bin/python" -m pip wheel -q --no-deps --wheel-dir "$work" "$work/$sdist"
fi

PYTHONPATH=. "$bin/python" scripts/check_wheel.py "$work"/*.whl --architecture "$arch" ||
  fail "the wheel is not for $platform; compile it with --container, or with an older compiler"
"$bin/python" -m wheel tags --remove --platform-tag "$platform" "$work"/*.whl >/dev/null
mkdir -p dist
mv "$work"/*.whl "$work/$sdist" dist/
ls -l dist
