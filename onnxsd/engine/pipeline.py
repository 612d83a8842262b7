"""From a prompt to images, over an exported folder; names and meanings are diffusers'."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.artifact.folder import Folder, open_folder
from onnxsd.engine.conditions import Conditions, TextEncoding
from onnxsd.engine.decoding import decode
from onnxsd.engine.denoise import denoise
from onnxsd.engine.engine import Engine, require_finite
from onnxsd.engine.gpu_use import GpuUse, watched
from onnxsd.engine.noise import TorchNoise
from onnxsd.engine.request import Request, Settings, decide
from onnxsd.engine.work import Denoising, OnStep
from onnxsd.errors import ConfigurationError, UsageError
from onnxsd.kernels.choice import Kernels
from onnxsd.models.families import FAMILIES, Family
from onnxsd.samplers import Table, parse, table_for
from onnxsd.session import Choice, Provider, resolve

Array = npt.NDArray[Any]
OUTPUT_TYPES = ("pil", "np", "latent")
# What the loop feeds; a denoiser with other inputs (LCM's `timestep_cond`) needs something it does not have.
DENOISER_INPUTS = {"sample", "timestep", "encoder_hidden_states", "text_embeds", "time_ids"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineOutput:
    """What one call made.

    images: PIL images, or arrays as `output_type` asked; one for each seed. seconds: by phase, with what was
    loaded for it (`gpu.loading_s` says how much that was).
    gpu: None on a CPU.
    """

    images: list[Any]
    settings: Settings
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    gpu: GpuUse | None = None


class Pipeline:
    """An exported folder, ready to make images."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._scheduler = engine.folder.json("scheduler/scheduler_config.json")
        self._index = engine.folder.json("model_index.json")
        self.family = _family(engine.folder)
        self._text = TextEncoding(engine)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        provider: str | Choice = "auto",
        device_id: int = 0,
        cuda_graph: bool = True,
        memory_limit_bytes: int | None = None,
        kernels: str | Kernels = Kernels.AUTO,
    ) -> Pipeline:
        """The pipeline of a folder that `onnxsd export` wrote.

        Args:
            folder: the exported folder.
            provider: `cuda`, `cpu`, `tensorrt`, or `auto` for CUDA where a CUDA session can be made; or
                what `onnxsd.session.resolve` made of one of these, with its device.
            device_id: which GPU, of those that CUDA_VISIBLE_DEVICES leaves.
            cuda_graph: capture a step in a CUDA graph, which replays without the host.
            memory_limit_bytes: the most GPU memory to take; models leave it for one another where they must.
            kernels: `own` for onnxsd's CUDA kernels, `stock` for ONNX Runtime's operators alone, `auto` for
                own ones where they can be used; `engine.kernels` says which are, and why.

        Raises:
            BadInputError: not an export of onnxsd, or damaged.
            ProviderFallbackError: the provider asked for is not the one that would run.
            NotReadyError: own kernels were asked for, and something that they need is missing.
        """
        asked = _kernels(kernels)
        opened = open_folder(Path(folder))
        choice = provider if isinstance(provider, Choice) else resolve(provider, device_id)
        if memory_limit_bytes is not None and choice.provider is not Provider.CUDA:
            raise UsageError(
                f"a limit of GPU memory was given, and images are made on {choice.provider.value}:"
                f" {choice.reason}"
            )
        engine = Engine(
            opened,
            choice,
            cuda_graph=cuda_graph,
            memory_limit_bytes=memory_limit_bytes,
            kernels=asked,
        )
        return cls(engine)

    def __call__(
        self,
        prompt: str,
        *,
        negative_prompt: str | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_images_per_prompt: int = 1,
        seed: int | Sequence[int] | None = None,
        sampler: str | None = None,
        noise_schedule: str | None = None,
        latents: Array | None = None,
        output_type: str = "pil",
        callback_on_step_end: OnStep = lambda done, steps: None,
    ) -> PipelineOutput:
        """Images of a prompt.

        Args:
            prompt: what to show.
            negative_prompt: what not to show; None is the empty prompt, or zeros where the model wants them.
            height, width: pixels, multiples of the VAE's factor; by default the model's own.
            num_inference_steps, guidance_scale: by default the model's own; guidance of 1 or less is off.
            num_images_per_prompt: how many at once; their seeds count up from `seed`.
            seed: an integer, or one for each image; by default random. It means the same noise as
                `torch.Generator("cpu").manual_seed(seed)` in diffusers.
            sampler, noise_schedule: a name of `onnxsd samplers`; by default the checkpoint's own.
            latents: initial noise in place of the seed's, unit variance, (B, C, H/factor, W/factor).
            output_type: `pil`, `np` (B, H, W, 3) in 0…1, or `latent`.
            callback_on_step_end: told (calls done, calls in all); on a GPU from another thread.

        Raises:
            UsageError: a size, sampler, seed or output type that cannot be.
            VerificationError: NaN or infinity; the component is named.
            DeviceMemoryError: the GPU's memory does not suffice; the hint says what would fit.
        """
        if output_type not in OUTPUT_TYPES:
            raise UsageError(f"output_type {output_type!r}: it is one of {', '.join(OUTPUT_TYPES)}")
        if not isinstance(prompt, str):
            raise UsageError(f"the prompt is a {type(prompt).__name__}, not a text")
        self._require_prompt_alone()
        latents = None if latents is None else np.asarray(latents)
        request = Request(
            height=height,
            width=width,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            num_images=num_images_per_prompt,
            seed=seed,
            sampler=sampler or parse(self._scheduler).scheduler_class,
            noise_schedule=noise_schedule,
            latents=latents,
        )
        settings = decide(request, self.engine.folder.manifest.latent, self.family)
        gpu = self.engine.gpu
        if gpu is None:
            return self._make(prompt, negative_prompt, settings, latents, output_type, callback_on_step_end)

        def on_step(done: int, steps: int) -> None:
            gpu.worker.check()
            callback_on_step_end(done, steps)

        with watched(gpu, settings) as use:
            made = gpu.worker.run(
                lambda: self._make(prompt, negative_prompt, settings, latents, output_type, on_step)
            )
        return replace(made, gpu=use())

    def release(self) -> None:
        """Give back the memory of all models, on the GPU for real; the next call loads them again."""
        self.engine.release()

    def _make(
        self,
        prompt: str,
        negative_prompt: str | None,
        settings: Settings,
        latents: Array | None,
        output_type: str,
        on_step: OnStep,
    ) -> PipelineOutput:
        clock = _Clock()
        table = self._table(settings)
        conditional, unconditional = self._conditions(prompt, negative_prompt, settings)
        clock.phase("text")
        work = self._work(settings, table, latents, conditional, unconditional)
        clean = denoise(self.engine, work, on_step)
        clock.phase("denoise")
        require_finite(clean, self.engine.folder.manifest.latent.denoiser)
        images = list(clean) if output_type == "latent" else decode(self.engine, clean, output_type)
        clock.phase("decode")
        return PipelineOutput(
            images=images,
            settings=settings,
            seconds=clock.seconds,
            warnings=self._warnings(prompt, negative_prompt),
        )

    def _require_prompt_alone(self) -> None:
        """Refuse models that need more than a prompt, which this version has no way to give."""
        needs = self.family.needs
        manifest = self.engine.folder.manifest
        inputs = {tensor.name for tensor in manifest.component(manifest.latent.denoiser).inputs}
        if unknown := sorted(inputs - DENOISER_INPUTS):
            needs = f"{', '.join(unknown)} for its denoiser"
        if needs is not None:
            raise UsageError(
                f"{self.engine.folder.path} is {self.family.title}, which needs {needs}",
                hint="this version makes images from a prompt alone: export a base model",
            )

    def _table(self, settings: Settings) -> Table:
        config = parse(self._scheduler, settings.sampler.scheduler_class)
        return table_for(settings.sampler, config, settings.num_inference_steps, settings.noise_schedule)

    def _conditions(
        self, prompt: str, negative_prompt: str | None, settings: Settings
    ) -> tuple[Conditions, Conditions | None]:
        """One row an image; the second for the negative prompt, None where guidance is off."""
        count = len(settings.seeds)
        # Original size, crop, target size: as if cut from a picture of just this size.
        size = (settings.height, settings.width)
        time_ids = (*size, 0, 0, *size) if self.family.xl else None
        wanted = self._text.encode([prompt], time_ids).repeated(count)
        if not settings.guided:
            return wanted, None
        zeros = self.family.xl and self._index.get("force_zeros_for_empty_prompt", True)
        if negative_prompt is None and zeros:
            return wanted, wanted.without_text()
        return wanted, self._text.encode([negative_prompt or ""], time_ids).repeated(count)

    def _work(
        self,
        settings: Settings,
        table: Table,
        latents: Array | None,
        conditional: Conditions,
        unconditional: Conditions | None,
    ) -> Denoising:
        latent = self.engine.folder.manifest.latent
        shape = (1, latent.channels, settings.height // latent.factor, settings.width // latent.factor)
        streams = [TorchNoise(seed) for seed in settings.seeds]
        if latents is None:
            latents = np.concatenate([stream.draw(shape) for stream in streams])
        noise = np.zeros((len(table), *latents.shape), np.float32) if table.noise_rows.any() else None
        for call in np.flatnonzero(table.noise_rows):
            assert noise is not None
            noise[call] = np.concatenate([stream.draw(shape) for stream in streams])
        return Denoising(
            table=table,
            latents=latents.astype(np.float32),
            conditional=conditional,
            unconditional=unconditional,
            guidance_scale=settings.guidance_scale,
            noise=noise,
        )

    def _warnings(self, prompt: str, negative_prompt: str | None) -> tuple[str, ...]:
        """What part of a prompt was cut, once for each way in which the encoders cut it."""
        told = []
        for text in (prompt, negative_prompt or ""):
            for tokens in self._text.tokens(text):
                if tokens.warning is not None and tokens.warning not in told:
                    told.append(tokens.warning)
        return tuple(told)


class _Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def phase(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now


def _kernels(asked: str | Kernels) -> Kernels:
    """What is asked for, by its name too."""
    try:
        return Kernels(asked)
    except ValueError as error:
        names = ", ".join(kernels.value for kernels in Kernels)
        raise UsageError(f"there are no {asked} kernels: it is one of {names}") from error


def _family(folder: Folder) -> Family:
    family = folder.family()
    if family is None:
        raise ConfigurationError(
            f"{folder.path} is a {folder.manifest.pipeline}", hint=f"known are {', '.join(FAMILIES)}"
        )
    return family
