"""diffusers as its own documents say to run it fast: eager, or compiled by torch in one of two ways."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onnxsd.bench.contenders.contender import Answer, Contender, timed_blocks, variant_in, versions_of
from onnxsd.bench.contenders.torch_tools import Kept, save_images, save_unet_output, save_vae_output

WARM_UP = 3
# By contender: how torch.compile is told to work; None leaves the model as it is.
MODES = {"diffusers": None, "compile": "reduce-overhead", "compile-max": "max-autotune"}


def load(*, name: str, model: str, provider: str, device_id: int, **_: Any) -> tuple[DiffusersTorch, Answer]:
    """The pipeline on its device."""
    started = time.perf_counter()
    contender = DiffusersTorch(Path(model), mode=MODES[name], provider=provider, device_id=device_id)
    versions = versions_of("torch", "diffusers", "transformers", "triton")
    return contender, {"seconds": time.perf_counter() - started, "versions": versions}


class DiffusersTorch(Contender):
    """A pipeline of diffusers: fp16, SDPA (torch's default) and channels_last on a GPU, float32 on a CPU."""

    def __init__(self, model: Path, *, mode: str | None, provider: str, device_id: int) -> None:
        import torch

        self._torch = torch
        self._device = f"cuda:{device_id}" if provider == "cuda" else "cpu"
        self._pipe = _pipeline(model, torch.float16 if provider == "cuda" else torch.float32).to(self._device)
        for part in (self._pipe.unet, self._pipe.vae):
            part.to(memory_format=torch.channels_last)
        unet, decode = self._pipe.unet, self._pipe.vae.decode
        if mode is not None:
            unet, decode = self._compiled(mode)
        self._unet, self._decode = Kept(unet), Kept(decode)
        self._factor = self._pipe.vae_scale_factor
        self._pipe.unet, self._pipe.vae.decode = self._unet, self._decode

    def image(
        self, *, size: int, batch: int, steps: int, guidance: float, prompt: str, seed: int, save: str | None
    ) -> Answer:
        """Seconds of one call of the pipeline, PIL images at its end."""
        self._wait()
        started = time.perf_counter()
        images = self._pipe(
            prompt,
            height=size,
            width=size,
            num_inference_steps=steps,
            guidance_scale=guidance,
            num_images_per_prompt=batch,
            latents=self._noise(size, batch, seed),
        ).images
        seconds = time.perf_counter() - started
        if save is not None:
            save_images(images, save)
        return {"seconds": seconds}

    def denoise(self, *, size: int, batch: int, guidance: float, calls: int, blocks: int) -> Answer:
        """Seconds of a UNet call, without guidance's combination and the scheduler's step."""
        rows = batch * (2 if guidance > 1 else 1)
        key = (rows, int(self._pipe.unet.config.in_channels), size // self._factor, size // self._factor)
        return {"seconds": self._timed(lambda: self._unet.repeat(key), calls, blocks)}

    def decode(self, *, size: int, batch: int, calls: int, blocks: int) -> Answer:
        """Seconds of decoding the batch at once."""
        channels = int(self._pipe.vae.config.latent_channels)
        key = (batch, channels, size // self._factor, size // self._factor)
        return {"seconds": self._timed(lambda: self._decode.repeat(key), calls, blocks)}

    def unet_output(self, *, inputs: str, out: str) -> Answer:
        """The UNet's output as the compiled or eager model gives it."""
        save_unet_output(self._unet, inputs, out)
        return {}

    def vae_output(self, *, inputs: str, out: str) -> Answer:
        """The decoder's output."""
        save_vae_output(self._decode, inputs, out)
        return {}

    def forget(self) -> None:
        """Give memory back that a failed call held."""
        if self._device != "cpu":
            self._torch.cuda.empty_cache()

    def _noise(self, size: int, batch: int, seed: int) -> Any:
        """The seeds' first latents. A generator in their place would be an argument of SD 1.5's decoder."""
        torch, side = self._torch, size // self._factor
        shape = (1, int(self._pipe.vae.config.latent_channels), side, side)
        drawn = [
            torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed + at)) for at in range(batch)
        ]
        return torch.cat(drawn).to(self._pipe.vae.dtype)

    def _compiled(self, mode: str) -> tuple[Any, Any]:
        """UNet and decoder under torch.compile, with projections fused as diffusers' guide has it."""
        import torch._dynamo.config as dynamo
        import torch._inductor.config as inductor

        torch = self._torch
        # One program for each size and batch; torch before 2.6 has another name for it.
        setattr(dynamo, "recompile_limit" if hasattr(dynamo, "recompile_limit") else "cache_size_limit", 64)
        if mode == "max-autotune":
            inductor.conv_1x1_as_mm = True
            inductor.coordinate_descent_tuning = True
            inductor.coordinate_descent_check_all_directions = True
            inductor.epilogue_fusion = False
        self._pipe.fuse_qkv_projections()
        how = {"mode": mode, "fullgraph": True, "dynamic": False}
        return torch.compile(self._pipe.unet, **how), torch.compile(self._pipe.vae.decode, **how)

    def _timed(self, call: Callable[[], Any], calls: int, blocks: int) -> list[float]:
        with self._torch.no_grad():  # as the pipeline calls it: a compiled model knows
            for _ in range(WARM_UP):
                call()
            return timed_blocks(call, self._wait, calls=calls, blocks=blocks)

    def _wait(self) -> None:
        if self._device != "cpu":
            self._torch.cuda.synchronize(self._device)


def _pipeline(model: Path, dtype: Any) -> Any:
    """The checkpoint's own pipeline, silent, without a safety checker; its VAE in the same type."""
    import diffusers

    settings: dict[str, Any] = {"safety_checker": None, "requires_safety_checker": False}
    if "XL" in diffusers.DiffusionPipeline.load_config(model)["_class_name"]:
        settings = {"add_watermarker": False}
    pipe = diffusers.DiffusionPipeline.from_pretrained(
        model,
        torch_dtype=dtype,
        variant=variant_in(model),
        use_safetensors=True,
        local_files_only=True,
        **settings,
    )
    pipe.set_progress_bar_config(disable=True)
    # SDXL's own VAE asks for float32; here every contender decodes in fp16, as with a VAE made for it.
    pipe.vae.register_to_config(force_upcast=False)
    return pipe
