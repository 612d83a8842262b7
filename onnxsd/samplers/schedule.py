"""What a scheduler_config.json says, with the defaults of the diffusers class that is to read it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from onnxsd.errors import ConfigurationError
from onnxsd.samplers.classes import ONLY, PREDICTIONS, SCHEDULER_CLASSES, TRANSLATIONS, WITHOUT


class BetaSchedule(enum.Enum):
    """How the training noise grows with the timestep."""

    LINEAR = "linear"
    SCALED_LINEAR = "scaled_linear"
    SQUARED_COSINE = "squaredcos_cap_v2"


class Prediction(enum.Enum):
    """What the denoiser answers."""

    EPSILON = "epsilon"
    VELOCITY = "v_prediction"
    SAMPLE = "sample"


class Spacing(enum.Enum):
    """Which of the trained timesteps are visited (Lin et al. 2023, table 2)."""

    LEADING = "leading"
    TRAILING = "trailing"
    LINSPACE = "linspace"


class FinalSigma(enum.Enum):
    """The noise level that the last step goes to."""

    ZERO = "zero"
    SIGMA_MIN = "sigma_min"


class SolverType(enum.Enum):
    """How DPM-Solver++ takes its second-order step."""

    MIDPOINT = "midpoint"
    HEUN = "heun"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """A noise schedule and how to step through it, as one scheduler class reads it."""

    scheduler_class: str
    num_train_timesteps: int
    beta_start: float
    beta_end: float
    beta_schedule: BetaSchedule
    trained_betas: tuple[float, ...] | None
    prediction_type: Prediction
    timestep_spacing: Spacing
    steps_offset: int
    set_alpha_to_one: bool
    skip_prk_steps: bool
    use_karras_sigmas: bool
    sigma_min: float | None
    sigma_max: float | None
    final_sigmas_type: FinalSigma
    rescale_betas_zero_snr: bool
    solver_order: int
    solver_type: SolverType
    lower_order_final: bool
    euler_at_final: bool
    stated: tuple[tuple[str, object], ...] = field(repr=False)
    """What the file itself says: it outlives a change of class, the defaults do not."""

    def for_class(self, scheduler_class: str) -> SchedulerConfig:
        """The same file as another class reads it (diffusers' `OtherScheduler.from_config(config)`)."""
        return parse(dict(self.stated), scheduler_class)


def parse(config: Mapping[str, object], scheduler_class: str | None = None) -> SchedulerConfig:
    """The config as its own class reads it, or as `scheduler_class` does.

    As in diffusers, a stated key carries over to any class that takes it, an absent one means that class's
    default, and keys that only other classes take (saved files are full of them) mean nothing.

    Args:
        config: a scheduler_config.json as diffusers writes it, old or new.
        scheduler_class: the diffusers class to read it as, where a user picked another sampler.
    """
    name = scheduler_class or config.get("_class_name")
    if not isinstance(name, str) or name not in SCHEDULER_CLASSES:
        found = "no _class_name" if name is None else f"_class_name {name!r}"
        raise ConfigurationError(
            f"the scheduler config has {found}; known are {', '.join(SCHEDULER_CLASSES)}",
            hint="pick one of these as the sampler, and the config's noise schedule is kept",
        )
    # `_use_default_values` is how diffusers, in memory, marks keys that the file did not have.
    marked = config.get("_use_default_values")
    absent = marked if isinstance(marked, (list, tuple)) else ()
    return _read(name, {key: value for key, value in config.items() if key not in absent})


def _read(name: str, stated: Mapping[str, object]) -> SchedulerConfig:
    arguments = SCHEDULER_CLASSES[name]
    taken = {key: _translated(name, key, value) for key, value in stated.items() if key in arguments}
    values = {**WITHOUT, **arguments, **taken}
    for key in arguments:
        _refuse_unsupported(name, key, values[key])
    reader = _Reader(scheduler_class=name, values=values)
    config = SchedulerConfig(
        scheduler_class=name,
        num_train_timesteps=reader.integer("num_train_timesteps", minimum=1),
        beta_start=reader.number("beta_start"),
        beta_end=reader.number("beta_end"),
        beta_schedule=reader.one_of("beta_schedule", BetaSchedule),
        trained_betas=reader.numbers("trained_betas"),
        prediction_type=reader.one_of("prediction_type", Prediction),
        timestep_spacing=reader.one_of("timestep_spacing", Spacing),
        steps_offset=reader.integer("steps_offset", minimum=0),
        set_alpha_to_one=reader.switch("set_alpha_to_one"),
        skip_prk_steps=reader.switch("skip_prk_steps"),
        use_karras_sigmas=reader.switch("use_karras_sigmas"),
        sigma_min=reader.optional_number("sigma_min"),
        sigma_max=reader.optional_number("sigma_max"),
        final_sigmas_type=reader.one_of("final_sigmas_type", FinalSigma),
        rescale_betas_zero_snr=reader.switch("rescale_betas_zero_snr"),
        solver_order=reader.integer("solver_order", minimum=1),
        solver_type=reader.one_of("solver_type", SolverType),
        lower_order_final=reader.switch("lower_order_final"),
        euler_at_final=reader.switch("euler_at_final"),
        stated=tuple(stated.items()),
    )
    _check_betas(config)
    _check_karras_ends(config)
    return config


def _translated(name: str, key: str, value: object) -> object:
    return TRANSLATIONS.get((name, key, value), value) if isinstance(value, str) else value


def _refuse_unsupported(name: str, key: str, value: object) -> None:
    """Raise where the class would take another path than the one onnxsd runs."""
    allowed = ONLY.get(key)
    if key == "prediction_type":
        allowed = PREDICTIONS.get(name)
    if allowed is None or any(value is choice or value == choice for choice in allowed):
        return
    hint = "pick another sampler, or change the scheduler config"
    if key == "clip_sample":
        hint = "set clip_sample to false, as diffusers' Stable Diffusion pipelines do: latents pass 1"
    choices = " or ".join(repr(choice) for choice in allowed if choice is not None or len(allowed) == 1)
    raise ConfigurationError(f"{name} with {key}={value!r} is not supported, only {choices}", hint=hint)


def _check_betas(config: SchedulerConfig) -> None:
    """Raise where the noise would not grow: β must lie between 0 and 1."""
    if config.trained_betas is None:
        if not 0 < config.beta_start <= config.beta_end < 1:
            raise ConfigurationError(
                f"beta_start={config.beta_start} and beta_end={config.beta_end} must rise between 0 and 1"
            )
        return
    found = len(config.trained_betas)
    if found != config.num_train_timesteps:
        raise ConfigurationError(
            f"trained_betas has {found} values, but num_train_timesteps is {config.num_train_timesteps}"
        )
    outside = [beta for beta in config.trained_betas if not 0 < beta < 1]
    if outside:
        raise ConfigurationError(f"trained_betas holds {outside[0]}; each must lie between 0 and 1")


def _check_karras_ends(config: SchedulerConfig) -> None:
    low, high = config.sigma_min, config.sigma_max
    if (low is not None and low <= 0) or (high is not None and high <= (low or 0)):
        raise ConfigurationError(f"sigma_min={low} and sigma_max={high} must rise and be above 0")


Choice = TypeVar("Choice", bound=enum.Enum)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Reads values by type, naming class, key and value of one that does not fit."""

    scheduler_class: str
    values: Mapping[str, object]

    def _wrong(self, key: str, wanted: str) -> ConfigurationError:
        return ConfigurationError(f"{self.scheduler_class} has {key}={self.values[key]!r}; expected {wanted}")

    def integer(self, key: str, minimum: int) -> int:
        value = self.values[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise self._wrong(key, f"a whole number of at least {minimum}")
        return value

    def number(self, key: str) -> float:
        value = self.values[key]
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise self._wrong(key, "a number")
        return float(value)

    def optional_number(self, key: str) -> float | None:
        return None if self.values[key] is None else self.number(key)

    def numbers(self, key: str) -> tuple[float, ...] | None:
        value = self.values[key]
        if value is None:
            return None
        if not isinstance(value, (list, tuple)) or not all(isinstance(each, float) for each in value):
            raise self._wrong(key, "a list of numbers, or null")
        return tuple(value)

    def switch(self, key: str) -> bool:
        """True or false; null, as an optional switch is written, is false."""
        value = self.values[key]
        if value is not None and not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return bool(value)

    def one_of(self, key: str, choices: type[Choice]) -> Choice:
        known = {choice.value: choice for choice in choices}
        value = self.values[key]
        if not isinstance(value, str) or value not in known:
            raise self._wrong(key, " or ".join(known))
        return known[value]
