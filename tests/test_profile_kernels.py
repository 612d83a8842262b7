"""The classes that a GPU's time is told by know every kernel of our own."""

from __future__ import annotations

import pytest
from kernel_cases import native_library
from profile_kernels import CLASSES, REST, Kernel


def kind_of(name: str) -> str:
    return Kernel(name=name, ms=1.0, calls=1.0).kind


def test_every_own_kernel_has_its_class() -> None:
    """By the names that the native library launches them by."""
    kinds = {kind_of(name) for name in native_library().functions}

    assert REST not in kinds
    assert kinds >= {"GEGLU", "layer norm", "group norm", "bias, residual", "concatenation, upsampling"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("void onnxruntime::contrib::cuda::biasSplitGelu<__half, 640, 128>", "GEGLU"),
        ("void onnxruntime::cuda::GroupNormNHWCSumKernel<__half>", "group norm"),
        ("nvjet_hsh_128x256_64x4_2x1_v_bz_coopA_bias_NNT", "product"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma", "attention"),
        ("Memset (Device)", "memset"),
        ("a kernel that nobody knows", REST),
    ],
)
def test_stock_kernels_have_theirs(name: str, kind: str) -> None:
    assert kind_of(name) == kind
    assert kind in {*CLASSES, REST}
