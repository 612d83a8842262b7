"""Train `shapes`, the small model inside the package, from nothing: about 11 minutes on one H200.

    python scripts/train_shapes.py OUT                      both stages, then the pipeline in OUT/shapes
    python scripts/train_shapes.py OUT --stage vae          one stage; a stage that was stopped goes on
    python scripts/train_shapes.py OUT --topology sd15      the denoiser of Stable Diffusion 1.5's kind
    python scripts/train_shapes.py OUT --stage lora         a new shape, for the model in OUT/shapes
    python scripts/train_shapes.py OUT --smoke              a few small steps, on a CPU, to see that it runs

Each stage saves what it learnt in OUT, every minute and at its end, and goes on from there.
Needs onnxsd[run,reference]; a GPU is used where torch sees one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from shapes.assemble import write_pipeline
from shapes.dataset import BUCKETS, make_pools, shared_out
from shapes.denoiser_stage import train_denoiser
from shapes.lora_stage import train_lora
from shapes.stage import Plan
from shapes.topology import Topology, parameters
from shapes.vae_stage import reconstruction_psnr, train_vae

# Found on an H200: docs/performance.md has the figures.
VAE_PLAN = Plan(steps=9_500, batch=64, peak_rate=2e-3, average=0.999, seed=1)
DENOISER_PLAN = Plan(steps=12_500, batch=512, peak_rate=1.5e-3, average=0.9995, seed=2)
# Small enough for a CPU.
LORA_PLAN = Plan(steps=1_500, batch=16, peak_rate=1e-2, average=0.98, seed=3)
LORA_PICTURES = 800
VAE_BUCKETS = (replace(BUCKETS[0], share=0.8), replace(BUCKETS[3], share=0.1), replace(BUCKETS[9], share=0.1))
VAE_PICTURES = 200_000
DENOISER_PICTURES = 400_000
SMOKE_POOLS = [(BUCKETS[0], 24), (BUCKETS[1], 8)]
NAMES = {Topology.SDXL: "shapes", Topology.SD15: "shapes-sd15"}


def main() -> None:
    """Run the stages that were asked for."""
    asked = _arguments()
    out: Path = asked.out
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() and not asked.smoke else "cpu")
    STAGES[asked.stage](asked, out, device)


def _both(asked: argparse.Namespace, out: Path, device: torch.device) -> None:
    """The first stage in a process of its own: each forks its workers before torch has threads."""
    done = subprocess.run([sys.executable, *sys.argv, "--stage", "vae"], check=False)
    if done.returncode != 0:
        raise SystemExit(done.returncode)
    _denoiser(asked, out, device)


def _vae(asked: argparse.Namespace, out: Path, device: torch.device) -> None:
    started = time.perf_counter()
    plan = _plan(VAE_PLAN, asked)
    wanted = SMOKE_POOLS if asked.smoke else shared_out(VAE_BUCKETS, VAE_PICTURES)
    unseen = (BUCKETS[0], 16 if asked.smoke else 1000)
    *pools, judged = make_pools([*wanted, unseen], seed=plan.seed, device=device, workers=asked.workers)
    vae = train_vae(pools, plan, out / "vae.state")
    vae.save_pretrained(out / "vae")
    psnr = reconstruction_psnr(vae, judged)
    print(f"vae: {parameters(vae):,} parameters, PSNR {psnr:.2f} dB, scaling {vae.config.scaling_factor}")
    print(f"vae: {time.perf_counter() - started:.0f} s")


def _denoiser(asked: argparse.Namespace, out: Path, device: torch.device) -> None:
    started = time.perf_counter()
    _require(out / "vae", "--stage vae first")
    topology: Topology = asked.topology
    plan = _plan(DENOISER_PLAN, asked)
    wanted = SMOKE_POOLS if asked.smoke else shared_out(BUCKETS, DENOISER_PICTURES)
    pools = make_pools(wanted, seed=plan.seed, device=device, workers=asked.workers)
    print(f"denoiser: pools in {time.perf_counter() - started:.0f} s", flush=True)
    vae = AutoencoderKL.from_pretrained(out / "vae").to(device).requires_grad_(False)
    state = out / f"{NAMES[topology]}.state"
    unet, encoders = train_denoiser(topology, vae, pools, plan, state)
    folder = out / NAMES[topology]
    shutil.rmtree(folder, ignore_errors=True)
    write_pipeline(topology, vae, unet, encoders, folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder.name}: {parameters(vae, unet, encoders):,} parameters, {size / 1e6:.2f} MB")
    print(f"denoiser: {time.perf_counter() - started:.0f} s")


def _lora(asked: argparse.Namespace, out: Path, device: torch.device) -> None:
    started = time.perf_counter()
    model = asked.base or out / NAMES[Topology.SDXL]
    _require(model, "--stage denoiser first, or name a model with --base")
    pictures = SMOKE_POOLS[0][1] if asked.smoke else LORA_PICTURES
    for path in train_lora(model, _plan(LORA_PLAN, asked), pictures, device, out):
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")
    print(f"lora: {time.perf_counter() - started:.0f} s")


STAGES = {"all": _both, "vae": _vae, "denoiser": _denoiser, "lora": _lora}


def _require(folder: Path, first: str) -> None:
    if not folder.is_dir():
        raise SystemExit(f"error: {folder} is not there: run {first}")


def _plan(plan: Plan, asked: argparse.Namespace) -> Plan:
    if asked.smoke:
        plan = replace(plan, steps=2, batch=2)
    changes = {"steps": asked.steps, "batch": asked.batch, "peak_rate": asked.rate}
    return replace(plan, **{name: value for name, value in changes.items() if value is not None})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder for the states and the model")
    parser.add_argument("--stage", choices=STAGES, default="all", help="all: vae, denoiser")
    parser.add_argument("--base", type=Path, help="model that the LoRA changes (default: OUT/shapes)")
    parser.add_argument("--topology", type=Topology, choices=list(Topology), default=Topology.SDXL)
    parser.add_argument("--smoke", action="store_true", help="a few small steps on a CPU")
    parser.add_argument("--steps", type=int, help="steps of each stage")
    parser.add_argument("--batch", type=int, help="pictures of 128² pixels in a step")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that make scenes")
    parser.add_argument("--rate", type=float, help="peak learning rate")
    return parser.parse_args()


if __name__ == "__main__":
    main()
