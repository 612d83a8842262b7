"""The devices that the kernel shows: NVIDIA's nodes, and what stands on the PCI bus."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from onnxsd.machine.facts import OtherGpu

_NODES = ("nvidia[0-9]*", "nvidiactl", "nvidia-uvm", "nvidia-modeset", "dxg")
_NVIDIA = "10de"
_VENDORS = {"1002": "amd", "8086": "intel"}
# PCI base classes: 03 is a display controller, 12 a processing accelerator (AMD's Instinct cards).
_CLASSES = ("03", "12")


def device_nodes(dev: Path = Path("/dev")) -> tuple[str, ...]:
    """The device files through which a driver is reached; /dev/dxg is WSL's."""
    return tuple(sorted(f"/dev/{node.name}" for pattern in _NODES for node in dev.glob(pattern)))


def other_gpus(system: str, processor: str, pci: Path = Path("/sys/bus/pci/devices")) -> tuple[OtherGpu, ...]:
    """GPUs of AMD, Intel and Apple."""
    if system == "darwin":
        return (OtherGpu(vendor="apple", name="Apple silicon"),) if processor == "arm64" else ()
    if system == "win32":
        return _windows_gpus()
    return tuple(
        OtherGpu(vendor=_VENDORS[vendor], name=name) for vendor, name in _on_pci(pci) if vendor in _VENDORS
    )


def nvidia_on_pci(pci: Path = Path("/sys/bus/pci/devices")) -> tuple[str, ...]:
    """NVIDIA's GPUs on the bus by vendor and device number, with or without a driver."""
    return tuple(name for vendor, name in _on_pci(pci) if vendor == _NVIDIA)


def _on_pci(pci: Path) -> list[tuple[str, str]]:
    """The vendor and the name of each display controller and accelerator."""
    if not pci.is_dir():
        return []
    found = []
    for device in sorted(pci.iterdir()):
        try:
            kind, vendor, number = (_hex(device / name) for name in ("class", "vendor", "device"))
        except FileNotFoundError:
            continue  # it was unplugged meanwhile
        if kind[:2] in _CLASSES:
            found.append((vendor, _product(device) or f"{vendor}:{number}"))
    return found


def _hex(path: Path) -> str:
    return path.read_text(encoding="ascii").strip().removeprefix("0x")


def _product(device: Path) -> str | None:
    """The name that AMD's driver shows for some cards."""
    file = device / "product_name"
    return (file.read_text(encoding="utf-8", errors="replace").strip() or None) if file.is_file() else None


def _windows_gpus() -> tuple[OtherGpu, ...]:
    """AMD's and Intel's display adapters in the registry, by the names of their drivers."""
    winreg: Any = importlib.import_module("winreg")
    adapters = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"
    found = []
    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, adapters) as classes:
        for at in range(winreg.QueryInfoKey(classes)[0]):
            name = winreg.EnumKey(classes, at)
            if name.isdecimal():  # 0000, 0001, …; the others hold no adapter
                with winreg.OpenKey(classes, name) as adapter:
                    found.append(str(winreg.QueryValueEx(adapter, "DriverDesc")[0]))
    makers = ((name, re.search(r"\b(AMD|Radeon|Intel)\b", name, re.IGNORECASE)) for name in found)
    return tuple(
        OtherGpu(vendor="intel" if maker.group(1).lower() == "intel" else "amd", name=name)
        for name, maker in makers
        if maker is not None
    )
