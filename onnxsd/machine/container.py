"""What encloses this process, and what it may use there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from onnxsd.machine.facts import Container

_ROOT = Path("/")
# Files and variables that container engines leave, the more telling first: Kubernetes runs others underneath.
_VARIABLES = (
    ("KUBERNETES_SERVICE_HOST", "kubernetes"),
    ("APPTAINER_CONTAINER", "apptainer"),
    ("SINGULARITY_CONTAINER", "apptainer"),
)
_FILES = (("run/.containerenv", "podman"), (".dockerenv", "docker"))
_CGROUPS = (("kubepods", "kubernetes"), ("docker", "docker"), ("libpod", "podman"), ("lxc", "lxc"))
# Version 1 writes "no limit" as the largest multiple of a page that fits 63 bits.
_NO_LIMIT_FROM_BYTES = 1 << 60


def container(environ: Mapping[str, str], root: Path = _ROOT) -> Container | None:
    """The container; None outside of any."""
    kind = _kind(environ, root)
    if kind is None:
        return None
    groups = root / "sys/fs/cgroup"
    return Container(kind=kind, memory_limit_bytes=_memory(groups), cpus=_cpus(groups))


def _kind(environ: Mapping[str, str], root: Path) -> str | None:
    named = next((kind for name, kind in _VARIABLES if name in environ), None)
    marked = next((kind for name, kind in _FILES if (root / name).exists()), None)
    said = (_text(root / "run/systemd/container") or environ.get("container", "")).strip()
    groups = _text(root / "proc/1/cgroup") or ""
    grouped = next((kind for part, kind in _CGROUPS if re.search(rf"/{part}", groups)), None)
    return named or marked or (said or None) or grouped


def _memory(groups: Path) -> int | None:
    text = _text(groups / "memory.max") or _text(groups / "memory/memory.limit_in_bytes") or "max"
    limit = None if text.strip() == "max" else int(text)
    return None if limit is None or limit >= _NO_LIMIT_FROM_BYTES else limit


def _cpus(groups: Path) -> float | None:
    text = _text(groups / "cpu.max")  # "200000 100000": microseconds of each period
    if text is None:
        quota, period = _text(groups / "cpu/cpu.cfs_quota_us"), _text(groups / "cpu/cpu.cfs_period_us")
        text = f"{quota or '-1'} {period or '0'}"
    share, of = text.split()
    return None if share in ("max", "-1") else int(share) / int(of)


def _text(path: Path) -> str | None:
    """A small file's text; None where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
