"""Reads a machine: each fact alone, so that one that cannot be read is recorded and the rest still are."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging import tags
from packaging.version import Version

from onnxsd.machine import container, devices, installers, interpreter, nvidia, packages, system
from onnxsd.machine.facts import Library, Machine, OperatingSystem, OwnKernels
from onnxsd.machine.libraries import Search, driver_library, libraries
from onnxsd.machine.nvidia import Nvml
from onnxsd.machine.own_kernels import own_kernels
from onnxsd.machine.python import architecture, c_library, operating_system, python
from onnxsd.machine.reader import Background, Reader
from onnxsd.machine.tags import platform_tags_of
from onnxsd.machine.variables import variables

if TYPE_CHECKING:
    from onnxsd.machine.probing import Probing

_INSTALLER_TIMEOUT_S = 5.0


def snapshot(*, probe: bool = True, python: str | None = None) -> Machine:
    """What `onnxsd.machine.snapshot` gives."""
    environ = dict(os.environ)
    nvml = Nvml()
    uv = Background(lambda: installers.uv_version(environ))
    executable = None if python is None else interpreter.locate(python)
    told = None if executable is None else interpreter.of(executable)
    with ExitStack() as stack:
        probing = stack.enter_context(_probing(executable)) if probe else None
        snap = _Snapshot(told or interpreter.here(), environ, nvml, uv, ours=told is None)
        return snap.machine(probing)


def _probing(executable: str | None) -> Probing:
    from onnxsd.machine.probing import Probing  # its threads are not needed to read alone

    return Probing(executable)


class _Snapshot:
    """One look at a machine; what several facts are read from is read once."""

    def __init__(
        self,
        told: dict[str, Any],
        environ: Mapping[str, str],
        nvml: Nvml,
        uv: Background[Version | None],
        *,
        ours: bool,
    ) -> None:
        self._told, self._environ, self._nvml, self._uv, self._ours = told, environ, nvml, uv, ours
        self._reader = Reader()

    def machine(self, probing: Probing | None) -> Machine:
        """All facts; the order is that of the fields, but for what others are read from."""
        told, environ, read = self._told, self._environ, self._reader.read
        kernel_driver = read("kernel_driver", nvidia.kernel_module_version, None)
        no_nodes: tuple[str, ...] = ()
        nodes = read("device_nodes", lambda: devices.device_nodes(), no_nodes)
        driver = self._nvml.driver(self._reader, kernel_driver)
        if probing is not None and (driver.gpus or nodes or kernel_driver):
            probing.start_cuda()
        found = self._libraries()
        packages.note_faults(told, self._reader)
        return Machine(
            os=operating_system(told),
            arch=architecture(told),
            distro=read("distro", system.distro, None),
            glibc=read("glibc", lambda: c_library(told, "glibc"), None),
            musl=read("musl", lambda: c_library(told, "musl"), None),
            wsl=read("wsl", lambda: system.is_wsl(environ, platform.release()), False),
            container=read("container", lambda: container.container(environ), None),
            python=python(told),
            pip=read("pip", lambda: packages.tool_version(told, "pip"), None),
            uv=read(
                "uv", lambda: self._uv.result(_INSTALLER_TIMEOUT_S) or packages.tool_version(told, "uv"), None
            ),
            pip_index=read("pip_index", lambda: self._pip_index(), None),
            platform_tags=read("platform_tags", self._platform_tags, ()),
            driver=driver.version,
            driver_cuda=driver.cuda,
            kernel_driver=kernel_driver,
            driver_library=driver_library(found),
            device_nodes=nodes,
            gpus=driver.gpus,
            other_gpus=read("other_gpus", lambda: devices.other_gpus(told["system"], told["processor"]), ()),
            nvidia_pci=read("nvidia_pci", devices.nvidia_on_pci, ()),
            distributions=read("distributions", lambda: packages.distributions(told, self._reader), ()),
            modules=read("modules", lambda: packages.modules(told), ()),
            damaged=read("damaged", lambda: packages.damaged(told), ()),
            libraries=found,
            variables=read("variables", lambda: variables(environ), ()),
            memory_bytes=read("memory_bytes", system.memory_bytes, None),
            disk_free_bytes=self._room("disk_free_bytes", Path.cwd),
            temp_free_bytes=self._room("temp_free_bytes", system.temporary_folder),
            cache_free_bytes=self._room("cache_free_bytes", lambda: system.pip_cache(environ, Path.home())),
            probes=read("probes", probing.sessions, None) if probing else None,
            torch_probe=read("torch_probe", probing.torch, None) if probing else None,
            own_kernels=read("own_kernels", self._own_kernels, None),
            unreadable=tuple(self._reader.unreadable),
        )

    def _libraries(self) -> tuple[Library, ...]:
        search = Search(told=self._told, variables=self._environ)
        nothing: tuple[Library, ...] = ()
        return self._reader.read("libraries", lambda: libraries(search, self._reader), nothing)

    def _own_kernels(self) -> OwnKernels | None:
        return own_kernels(self._told, self._environ, Path.home(), ours=self._ours)

    def _pip_index(self) -> str:
        return installers.pip_index(self._environ, self._told["prefixes"], Path.home())

    def _room(self, fact: str, folder: Callable[[], Path]) -> int | None:
        return self._reader.read(fact, lambda: system.free_bytes(folder()), None)

    def _platform_tags(self) -> tuple[str, ...]:
        """As packaging gives them for this interpreter; for another, from its own facts."""
        if self._ours:
            return tuple(tags.platform_tags())
        told = self._told
        found = platform_tags_of(
            operating_system(told),
            architecture(told),
            glibc=c_library(told, "glibc"),
            musl=c_library(told, "musl"),
        )
        if not found or told["bits"] != 64 or operating_system(told) is OperatingSystem.OTHER:
            raise NotImplementedError(
                f"tags of another interpreter on {told['system']} {told['processor']}, {told['bits']} bit"
            )
        return found
