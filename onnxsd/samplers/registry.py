"""The samplers by name, and the table that one of them makes of a model's noise schedule."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from onnxsd.errors import UsageError
from onnxsd.samplers.ancestral import euler_ancestral
from onnxsd.samplers.ddim import ddim
from onnxsd.samplers.dpm import dpm_multistep
from onnxsd.samplers.euler import euler
from onnxsd.samplers.pndm import pndm
from onnxsd.samplers.schedule import SchedulerConfig
from onnxsd.samplers.table import Table


class NoiseSchedule(enum.Enum):
    """Where a sampler's noise levels lie."""

    NORMAL = "normal"
    """At the model's own timesteps, by the config's spacing."""
    KARRAS = "karras"
    """Karras et al. 2022, equation 5: denser where there is little noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """One way from noise to image, and what people call it."""

    key: str
    title: str
    """As A1111 shows it and a PNG's `Sampler:` says it."""
    scheduler_class: str
    """diffusers' class, whose defaults complete a config."""
    description: str
    build: Callable[[SchedulerConfig, int], Table]
    noise_schedules: tuple[NoiseSchedule, ...] = (NoiseSchedule.NORMAL,)
    aliases: tuple[str, ...] = ()
    noise_schedule: NoiseSchedule | None = None
    """What the name itself asked for ("DPM++ 2M Karras"); None leaves it to the config."""


BOTH = (NoiseSchedule.NORMAL, NoiseSchedule.KARRAS)

# Adding one: its function, a line here, its class in classes.py, a row in tests/test_samplers.py.
SAMPLERS: tuple[Sampler, ...] = (
    Sampler(
        key="euler",
        title="Euler",
        scheduler_class="EulerDiscreteScheduler",
        description="straight steps, deterministic; SDXL's default",
        build=euler,
        noise_schedules=BOTH,
        aliases=("k_euler",),
    ),
    Sampler(
        key="euler_a",
        title="Euler a",
        scheduler_class="EulerAncestralDiscreteScheduler",
        description="Euler with fresh noise at each step; the image keeps changing with the number of steps",
        build=euler_ancestral,
        aliases=("k_euler_a", "euler_ancestral", "k_euler_ancestral"),
    ),
    Sampler(
        key="ddim",
        title="DDIM",
        scheduler_class="DDIMScheduler",
        description="deterministic (η = 0), on the trained timesteps; SD 2.1's default",
        build=ddim,
    ),
    Sampler(
        key="pndm",
        title="PLMS",
        scheduler_class="PNDMScheduler",
        description="fourth-order multistep, one call more than steps; SD 1.5's default",
        build=pndm,
    ),
    Sampler(
        key="dpm++2m",
        title="DPM++ 2M",
        scheduler_class="DPMSolverMultistepScheduler",
        description="second-order multistep, deterministic; good images from 20 steps",
        build=dpm_multistep,
        noise_schedules=BOTH,
        aliases=("k_dpmpp_2m", "dpm++", "dpmsolver++", "dpm_solver++", "dpmsolver_multistep"),
    ),
)


def find(name: str) -> Sampler:
    """The sampler of that key, title, alias or diffusers class; case, spaces, - and _ do not matter.

    A name that ends in a noise schedule, as "DPM++ 2M Karras", gives the sampler with that schedule set.
    """
    wanted = _plain(name)
    if wanted in (names := _names()):
        return names[wanted]
    for schedule in NoiseSchedule:
        sampler = names.get(wanted.removesuffix(schedule.value))
        if sampler is not None and wanted.endswith(schedule.value):
            _check_takes(sampler, schedule)
            return replace(sampler, noise_schedule=schedule)
    raise UsageError(
        f"there is no sampler {name!r}", hint=f"there are {', '.join(sampler.key for sampler in SAMPLERS)}"
    )


def table_for(
    sampler: Sampler, config: SchedulerConfig, num_inference_steps: int, noise_schedule: str | None = None
) -> Table:
    """The table of that many steps through the config's noise schedule.

    Args:
        sampler: where it is not the config's own, what the config states carries over and the sampler's
            diffusers class gives the rest.
        config: the model's scheduler_config.json.
        num_inference_steps: 1 to the number of trained timesteps; the table may hold a few more calls.
        noise_schedule: "normal" or "karras"; None is what the sampler's name or else the config asks for.
    """
    if not 1 <= num_inference_steps <= config.num_train_timesteps:
        raise UsageError(
            f"{num_inference_steps} inference steps were asked for; this model takes "
            f"1 to {config.num_train_timesteps}"
        )
    own = config.for_class(sampler.scheduler_class)
    schedule = _asked(sampler, noise_schedule)
    if schedule is not None:
        own = replace(own, use_karras_sigmas=schedule is NoiseSchedule.KARRAS)
    return sampler.build(own, num_inference_steps)


def _asked(sampler: Sampler, noise_schedule: str | None) -> NoiseSchedule | None:
    """What the caller, or else the sampler's name, says of the noise schedule."""
    if noise_schedule is None:
        return sampler.noise_schedule
    known = {schedule.value: schedule for schedule in NoiseSchedule}
    asked = known.get(noise_schedule.strip().casefold())
    if asked is None:
        raise UsageError(
            f"there is no noise schedule {noise_schedule!r}", hint=f"there are {', '.join(known)}"
        )
    _check_takes(sampler, asked)
    if sampler.noise_schedule is not None and sampler.noise_schedule is not asked:
        raise UsageError(
            f"the sampler was named with the {sampler.noise_schedule.value} noise schedule, but "
            f"{asked.value} was asked for",
            hint=f"name the sampler {sampler.title!r} and choose the schedule apart, or leave it out",
        )
    return asked


def _check_takes(sampler: Sampler, schedule: NoiseSchedule) -> None:
    if schedule not in sampler.noise_schedules:
        able = ", ".join(other.title for other in SAMPLERS if schedule in other.noise_schedules)
        raise UsageError(
            f"{sampler.title} does not take the {schedule.value} noise schedule", hint=f"these do: {able}"
        )


def _names() -> dict[str, Sampler]:
    """Every accepted name in its plain form."""
    return {
        _plain(name): sampler
        for sampler in reversed(SAMPLERS)  # the first of several with one diffusers class answers to its name
        for name in (sampler.key, sampler.title, sampler.scheduler_class, *sampler.aliases)
    }


def _plain(name: str) -> str:
    """Lower case without spaces, hyphens and underscores; "pp", as in dpmpp_2m, is "++"."""
    return re.sub(r"[\s_-]+", "", name.casefold()).replace("dpmpp", "dpm++").removesuffix("scheduler")
