"""A device number of the native library whose kernels run on the CPU, in sessions of ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from kernel_cases import native_library

from emulator.launching import Emulator, emulator
from onnxsd.kernels.library import OperatorLibrary
from onnxsd.session import CustomOperators, Optimization, Provider, Session, SessionSettings, runtime

# Numbers that no other test gives kernels to.
FIRST_SLOT = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatedDevice:
    """Where the kernels of own operators are: in `emulator`, given to `library` under the number `slot`."""

    library: OperatorLibrary
    emulator: Emulator
    slot: int

    def session(
        self, model: bytes, optimize: Optimization = Optimization.DISABLED, *, lean: bool = False
    ) -> Session:
        """A session on the CPU that knows own operators; a lean one keeps the nodes' order."""
        own = CustomOperators(library=self.library.path, entries=(("onnxsd.device", str(self.slot)),))
        settings = SessionSettings(optimize=optimize, lean=lean, custom_operators=own, threads=1)
        return Session.create(model, provider=Provider.CPU, options=settings)


def emulated_device(slot: int = FIRST_SLOT, *, broken: bool = False) -> EmulatedDevice:
    """All kernels for one device number; a broken device refuses to launch any.

    A test that needs it is skipped where the native library cannot be, or ONNX Runtime is too old for it.
    """
    library = native_library()
    if (installed := runtime.available()).version.release[:2] < (1, library.api_version):
        pytest.skip(f"{installed} has not the API that the library needs: Python 3.10 has no newer one")
    kernels = emulator()
    handles = [0 if broken else kernels.handle(name) for name in library.functions]
    library.provide(slot, Provider.CPU.runtime_name, kernels.address, handles)
    return EmulatedDevice(library=library, emulator=kernels, slot=slot)
