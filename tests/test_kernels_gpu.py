"""The tests of test_kernels_numeric on a real GPU; under `compute-sanitizer` they look at memory too."""

from __future__ import annotations

import pytest
from emulator.on_gpu import RealGpu
from test_kernels_numeric import *  # noqa: F403 - its tests, with another `gpu`

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def gpu() -> RealGpu:
    """The kernels as the engine compiles them."""
    return RealGpu()
