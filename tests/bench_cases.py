"""A report made by hand, for tests of what is computed from one and how it is shown."""

from __future__ import annotations

from onnxsd.bench.report import (
    SCHEMA,
    Case,
    CaseReport,
    Ceiling,
    ContenderReport,
    GpuRecord,
    MachineRecord,
    ModelReport,
    PackageVersion,
    Report,
    Settings,
    Workload,
)

CASE = Case(size_px=1024, batch=1)
GIB = 2**30


def contender(name: str, unet_s: tuple[float, ...], **changes: object) -> ContenderReport:
    """A contender whose VAE takes as long as its UNet, and whose image takes ten times that."""
    case = CaseReport(
        case=CASE,
        first_image_s=12 * unet_s[0],
        peak_gpu_bytes=9 * GIB,
        peak_host_bytes=3 * GIB,
        unet_s=unet_s,
        vae_s=unet_s,
        image_s=tuple(10 * seconds for seconds in unet_s),
        image_joules=(500.0, 510.0, 520.0),
        unet_error=1.3e-3,
        vae_error=3.1e-3,
        unet_repeat=0.0,
        vae_repeat=2.9e-3,
    )
    return ContenderReport(
        name=name,
        title=name,
        versions=(PackageVersion(name="package", version="1.0"),),
        load_s=1.0,
        cold_start_s=5.0,
        cases=(case,),
        **changes,  # type: ignore[arg-type]
    )


OURS = contender("onnxsd", (0.030, 0.031, 0.032, 0.040))
AGAIN = contender("onnxsd-again", (0.0315, 0.0315, 0.0315, 0.0315))
EAGER = contender("diffusers", (0.050, 0.0504, 0.051))
MISSING = ContenderReport(name="optimum", title="Optimum", failure="not installed: No module named 'optimum'")
MODEL = ModelReport(
    name="sdxl-base-1.0",
    pipeline="StableDiffusionXLPipeline",
    weights="random",
    steps=30,
    guidance_scale=5.0,
    in_turn=False,
    export_s=24.6,
    export_peak_bytes=1100 * 2**20,
    workloads=(Workload(case=CASE, unet_flops=13_522_000_000_000, vae_flops=10_470_000_000_000),),
    contenders=(OURS, AGAIN, EAGER, MISSING),
)
REPORT = Report(
    schema=SCHEMA,
    onnxsd="0.1.0",
    created="2026-11-21T20:00:00+00:00",
    command="onnxsd bench --random sdxl",
    seconds=321.0,
    settings=Settings(
        provider="cuda",
        device_id=0,
        sizes_px=(1024,),
        batches=(1,),
        steps=None,
        guidance_scale=None,
        rounds=5,
        contenders=("onnxsd", "onnxsd-again", "diffusers", "optimum"),
        in_turn=False,
        timeout_s=600.0,
        prompt="a red circle",
        seed=7,
    ),
    machine=MachineRecord(
        system="Linux 6.8 x86_64",
        processor="Some Processor",
        cores=16,
        memory_bytes=128 * GIB,
        python="3.12.3",
        gpu=GpuRecord(
            name="NVIDIA H200",
            memory_bytes=141 * GIB,
            driver="580.159.04",
            cuda="13.0",
            power_limit_w=700.0,
            sm_clock_max_mhz=1980,
            memory_clock_mhz=3201,
            sm_clock_mhz=(1500, 1700, 1980),
        ),
    ),
    ceiling=Ceiling(rows=8192, dtype="float16", rates=(770e12, 760e12, 780e12)),
    models=(MODEL,),
)
