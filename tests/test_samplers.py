"""Samplers: equal to diffusers' schedulers over whole trajectories, and sound without a reference."""

from __future__ import annotations

import inspect
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from onnxsd.errors import ConfigurationError, OnnxsdError, ShapeError, UsageError
from onnxsd.samplers import SAMPLERS, NoiseSchedule, Sampler, Table, find, parse, run, table_for
from onnxsd.samplers.classes import SCHEDULER_CLASSES
from onnxsd.samplers.pndm import RUNGE_KUTTA_STEPS

Array = npt.NDArray[np.floating]

SHAPE = (2, 4, 5, 3)
STEP_COUNTS = (1, 2, 5, 10, 20, 30, 50)
SPACINGS = ("leading", "trailing", "linspace")
TOLERANCE = 1e-5  # of the largest value

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
FAMILIES = ("sd-1.5", "sd-2.1", "sdxl-base-1.0")


def against_diffusers(test: Callable[..., None]) -> Callable[..., None]:
    """A reference test; numpy 2 warns of how diffusers turns a tensor into an array."""
    warning = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    marked: Callable[..., None] = pytest.mark.reference(pytest.mark.filterwarnings(warning)(test))
    return marked


def scheduler_config(family: str) -> dict[str, object]:
    """The scheduler part of a shipped configuration."""
    text = resources.files("onnxsd.models").joinpath(f"configurations/{family}.json").read_text("utf-8")
    return dict(json.loads(text)["scheduler"])


@dataclass(frozen=True, kw_only=True)
class Call:
    """What happened at one model call."""

    timestep: float
    seen: Array
    latent: Array


def random_denoise(seen: Array, timestep: float) -> Array:
    """An answer that depends on what was seen and on the timestep, element by element differently."""
    rng = np.random.default_rng(7)
    still, slope, phase = (rng.standard_normal(seen.shape) for _ in range(3))
    answer = (
        still * np.cos(timestep / 170) + 0.5 * np.tanh(seen * slope) + 0.3 * np.sin(timestep / 90 + phase)
    )
    return np.asarray(answer, dtype=np.float64)


def fresh_noise(call: int) -> Array:
    """The noise of one call."""
    return np.random.default_rng(1000 + call).standard_normal(SHAPE)


def first_noise() -> Array:
    """The initial latent before it is scaled."""
    return np.random.default_rng(3).standard_normal(SHAPE)


def our_calls(table: Table) -> list[Call]:
    """The trajectory of a table."""
    asked: list[tuple[float, Array]] = []
    latents: list[Array] = []

    def denoise(seen: Array, timestep: float) -> Array:
        asked.append((timestep, seen))
        return random_denoise(seen, timestep)

    last = run(table, denoise, first_noise(), noise=fresh_noise, on_step=lambda _, x: latents.append(x))
    np.testing.assert_array_equal(last, latents[-1])
    return [Call(timestep=t, seen=s, latent=x) for (t, s), x in zip(asked, latents, strict=True)]


def their_calls(scheduler: Any, steps: int, in_float64: bool = False) -> list[Call]:
    """The trajectory of a diffusers scheduler, as its pipelines run it.

    Latents and answers are float64, which only DDIM and PNDM keep; `in_float64` is for the others'
    coefficients.
    """
    import torch

    scheduler.set_timesteps(steps)
    if in_float64:
        scheduler.sigmas = scheduler.sigmas.double()
    latent = torch.from_numpy(first_noise()) * scheduler.init_noise_sigma
    calls = []
    for timestep in scheduler.timesteps:
        seen = scheduler.scale_model_input(latent, timestep)
        answer = torch.from_numpy(random_denoise(seen.numpy(), float(timestep)))
        latent = scheduler.step(answer, timestep, latent).prev_sample
        calls.append(Call(timestep=float(timestep), seen=seen.numpy(), latent=latent.numpy()))
    return calls


def assert_close(ours: Array, theirs: Array, what: str, tolerance: float) -> None:
    """At most this part of the reference's largest value apart."""
    apart = float(np.abs(ours - theirs).max()) / float(np.abs(theirs).max())
    assert apart <= tolerance, f"{what}: {apart:.1e} of the largest value apart"


def assert_same_trajectory(
    table: Table, scheduler: Any, steps: int, in_float64: bool = False, tolerance: float = TOLERANCE
) -> None:
    """Every timestep, every scaled input and every latent as diffusers has them."""
    theirs = their_calls(scheduler, steps, in_float64)
    ours = our_calls(table)
    assert table.initial_scale == pytest.approx(float(scheduler.init_noise_sigma), rel=1e-6)
    assert len(ours) == len(theirs) == len(table)
    told = [call.timestep for call in theirs]
    np.testing.assert_allclose(table.timesteps, told, rtol=0, atol=TOLERANCE * max(told[0], 1))
    for i, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        assert_close(our.seen, their.seen, f"input of call {i}", tolerance)
        assert_close(our.latent, their.latent, f"latent after call {i}", tolerance)


def scheduler_class(name: str) -> Any:
    """diffusers' class of that name."""
    import diffusers

    return getattr(diffusers, name)


@pytest.fixture
def shared_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers' ancestral scheduler draws the noise that `fresh_noise` gives us."""
    import torch
    from diffusers.schedulers import scheduling_euler_ancestral_discrete as module

    drawn = itertools.count()
    monkeypatch.setattr(
        module, "randn_tensor", lambda *_args, **_kwargs: torch.from_numpy(fresh_noise(next(drawn)))
    )


def grid(**choices: tuple[object, ...]) -> Iterator[dict[str, object]]:
    """Every combination; `steps_offset` only where it counts, with leading."""
    for values in itertools.product(*choices.values()):
        settings = dict(zip(choices, values, strict=True))
        if settings["timestep_spacing"] == "leading" or not settings["steps_offset"]:
            yield settings


COMMON: dict[str, tuple[object, ...]] = {"timestep_spacing": SPACINGS, "steps_offset": (0, 1)}
ALL_PREDICTIONS = ("epsilon", "v_prediction", "sample")
NO_SAMPLE = ("epsilon", "v_prediction")

CASES: dict[str, list[dict[str, object]]] = {
    "euler": [
        *grid(**COMMON, prediction_type=ALL_PREDICTIONS, use_karras_sigmas=(False, True)),
        {"final_sigmas_type": "sigma_min"},
        {"final_sigmas_type": "sigma_min", "use_karras_sigmas": True, "timestep_spacing": "trailing"},
        {"use_karras_sigmas": True, "sigma_min": 0.05, "sigma_max": 12.0},
    ],
    "euler_a": list(grid(**COMMON, prediction_type=NO_SAMPLE)),
    "ddim": [
        *grid(**COMMON, prediction_type=ALL_PREDICTIONS, set_alpha_to_one=(False, True)),
        {"prediction_type": "v_prediction", "timestep_spacing": "trailing", "rescale_betas_zero_snr": True},
    ],
    "pndm": [
        *grid(**COMMON, prediction_type=NO_SAMPLE, set_alpha_to_one=(False, True), skip_prk_steps=(True,)),
        *grid(**COMMON, prediction_type=NO_SAMPLE, set_alpha_to_one=(False,), skip_prk_steps=(False,)),
    ],
    "dpm++2m": [
        *grid(**COMMON, prediction_type=ALL_PREDICTIONS, use_karras_sigmas=(False, True)),
        {"solver_order": 1},
        {"solver_type": "heun"},
        {"solver_type": "heun", "final_sigmas_type": "sigma_min"},
        {"euler_at_final": True, "final_sigmas_type": "sigma_min"},
        {"lower_order_final": False, "final_sigmas_type": "sigma_min"},
        {"final_sigmas_type": "sigma_min", "use_karras_sigmas": True},
        {"prediction_type": "v_prediction", "timestep_spacing": "trailing", "rescale_betas_zero_snr": True},
    ],
}
OTHER_BETAS: list[dict[str, object]] = [
    {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"trained_betas": [0.001 + 0.00001 * i for i in range(800)], "num_train_timesteps": 800},
]


def case_id(value: object) -> str | None:
    """Settings as a readable id."""
    if not isinstance(value, dict):
        return None
    return ",".join(
        str(v) if isinstance(v, str) else f"{k}={v}" for k, v in value.items() if k != "trained_betas"
    )


@against_diffusers
@pytest.mark.usefixtures("shared_noise")
@pytest.mark.parametrize(
    ("key", "settings", "steps"),
    [
        (key, case, steps)
        for key, cases in CASES.items()
        for case in cases
        for steps in STEP_COUNTS
        if case.get("skip_prk_steps") is not False or steps >= RUNGE_KUTTA_STEPS
    ],
    ids=case_id,
)
def test_trajectory_is_that_of_diffusers(key: str, settings: dict[str, object], steps: int) -> None:
    compare(key, {**SD, **settings}, steps)


@against_diffusers
@pytest.mark.usefixtures("shared_noise")
@pytest.mark.parametrize("settings", OTHER_BETAS, ids=case_id)
@pytest.mark.parametrize("key", CASES)
def test_trajectory_with_other_training_noise(key: str, settings: dict[str, object]) -> None:
    compare(key, {"skip_prk_steps": True, **settings}, 10)


@against_diffusers
@pytest.mark.usefixtures("shared_noise")
@pytest.mark.parametrize("steps", STEP_COUNTS)
@pytest.mark.parametrize("key", ["euler", "euler_a"])
def test_euler_steps_from_noise_alone(key: str, steps: int) -> None:
    """From σ = 4096 diffusers subtracts numbers near 10⁴, in float32 whatever it is given: ulps of 10⁻³.

    That is up to 5e-5 of the latents that are left. Its σ_down cancels worse, but takes float64.
    """
    settings = {**SD, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
    settings["rescale_betas_zero_snr"] = True
    sampler = find(key)
    scheduler = scheduler_class(sampler.scheduler_class)(**settings)
    table = table_for(sampler, parse(settings, sampler.scheduler_class), steps)

    assert_same_trajectory(table, scheduler, steps, in_float64=True, tolerance=5 * TOLERANCE)


@against_diffusers
@pytest.mark.parametrize("steps", STEP_COUNTS)
def test_karras_timesteps_of_the_cosine_schedule(steps: int) -> None:
    """diffusers cuts their fractions off; the first is whole but for rounding, which then decides."""
    settings = {"beta_schedule": "squaredcos_cap_v2", "use_karras_sigmas": True}
    sampler = find("dpm++2m")
    scheduler = scheduler_class(sampler.scheduler_class)(**settings)
    scheduler.set_timesteps(steps)
    theirs = scheduler.timesteps.numpy()
    table = table_for(sampler, parse(settings, sampler.scheduler_class), steps)

    assert list(table.timesteps[1:]) == list(theirs[1:])
    assert table.timesteps[0] == pytest.approx(theirs[0], abs=1)


def compare(key: str, settings: Mapping[str, object], steps: int) -> None:
    """One sampler and its class, both with these settings."""
    sampler = find(key)
    cls = scheduler_class(sampler.scheduler_class)
    taken = {k: v for k, v in settings.items() if k in inspect.signature(cls.__init__).parameters}
    if key == "ddim":
        taken["clip_sample"] = False
    table = table_for(sampler, parse(taken, sampler.scheduler_class), steps)
    assert_same_trajectory(table, cls(**taken), steps)


@against_diffusers
@pytest.mark.usefixtures("shared_noise")
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.key)
@pytest.mark.parametrize("family", FAMILIES)
def test_shipped_configs_under_every_sampler(family: str, sampler: Sampler) -> None:
    """As `OtherScheduler.from_config(pipe.scheduler.config)` does, for the config's own class too."""
    written = scheduler_config(family)
    own = scheduler_class(str(written["_class_name"])).from_config(written)
    cls = scheduler_class(sampler.scheduler_class)
    # The pipelines of Stable Diffusion switch clip_sample off, which is DDIM's default.
    overrides = {"clip_sample": False} if sampler.key == "ddim" else {}
    config = parse(written)

    assert_same_trajectory(table_for(sampler, config, 20), cls.from_config(own.config, **overrides), 20)


@against_diffusers
@pytest.mark.parametrize("name", SCHEDULER_CLASSES)
def test_every_argument_of_the_class_is_known_at_its_default(name: str) -> None:
    parameters = inspect.signature(scheduler_class(name).__init__).parameters
    theirs = {key: p.default for key, p in parameters.items() if key not in ("self", "clip_sample")}
    ours = SCHEDULER_CLASSES[name]

    assert {key: ours.get(key, "unknown") for key in theirs} == theirs


@against_diffusers
@pytest.mark.parametrize("name", SCHEDULER_CLASSES)
def test_what_diffusers_saves_is_what_it_had_at_its_defaults(name: str, tmp_path: Path) -> None:
    overrides = {"clip_sample": False} if name == "DDIMScheduler" else {}
    scheduler_class(name)(**overrides).save_pretrained(tmp_path)
    saved = parse(json.loads((tmp_path / "scheduler_config.json").read_text("utf-8")))

    assert replace(saved, stated=()) == replace(parse({"_class_name": name}), stated=())


@against_diffusers
def test_a_config_in_diffusers_memory_counts_only_what_its_file_said() -> None:
    loaded = scheduler_class("PNDMScheduler").from_config(scheduler_config("sd-1.5"))

    euler = parse(dict(loaded.config), "EulerDiscreteScheduler")

    assert euler.timestep_spacing.value == "linspace"  # Euler's default, not PNDM's "leading"
    assert euler.steps_offset == 1


# Without a reference


def perfect_denoise(image: Array, prediction: str) -> Callable[[Array, float], Array]:
    """The exact answer for one image, from the definition of each prediction."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    signal = np.cumprod(1 - betas)

    def denoise(seen: Array, timestep: float) -> Array:
        alpha, sigma = np.sqrt(signal[int(timestep)]), np.sqrt(1 - signal[int(timestep)])
        noise = (seen - alpha * image) / sigma
        answers = {"epsilon": noise, "v_prediction": alpha * noise - sigma * image, "sample": image}
        return np.asarray(answers[prediction])

    return denoise


# PNDM averages velocities of different timesteps, as diffusers has it, so it is exact for ε alone.
EXACT = {"euler_a": NO_SAMPLE, "pndm": ("epsilon",)}


@pytest.mark.parametrize("steps", [1, 2, 7, 25])
@pytest.mark.parametrize(
    ("sampler", "prediction"),
    [(sampler, kind) for sampler in SAMPLERS for kind in EXACT.get(sampler.key, ALL_PREDICTIONS)],
    ids=lambda value: getattr(value, "key", value),
)
def test_a_perfect_denoiser_ends_at_the_image(sampler: Sampler, prediction: str, steps: int) -> None:
    stated = {**SD, "prediction_type": prediction, "timestep_spacing": "leading", "set_alpha_to_one": True}
    config = parse({**stated, "skip_prk_steps": True}, sampler.scheduler_class)
    image = np.random.default_rng(1).uniform(-2, 2, SHAPE)

    made = run(
        table_for(sampler, config, steps), perfect_denoise(image, prediction), first_noise(), fresh_noise
    )

    np.testing.assert_allclose(made, image, atol=2e-3)


def test_ancestral_steps_keep_the_noise_level() -> None:
    """What is left of the noise and what is drawn anew make up the next level."""
    table = table_for(find("euler_a"), parse(scheduler_config("sdxl-base-1.0")), 20)
    sigma = np.sqrt(1 / table.input_scale**2 - 1)
    # x + (target − σ)·ε: the output's coefficient says where the Euler part arrives.
    target = sigma + table.steps[:, 0, -2]
    fresh = table.steps[:, 0, -1]

    np.testing.assert_allclose(np.hypot(target, fresh)[:-1], sigma[1:], rtol=1e-9)
    assert list(table.noise_rows) == [True] * 19 + [False]


def test_sd15_makes_one_call_more_than_steps() -> None:
    table = table_for(find("pndm"), parse(scheduler_config("sd-1.5")), 50)

    assert len(table) == 51
    assert list(table.timesteps[:4]) == [981, 961, 961, 941]
    assert table.timesteps[-1] == 1


def test_stable_diffusions_highest_noise_level() -> None:
    """σ_max = 14.6146, as k-diffusion users know it."""
    table = table_for(find("euler"), parse({**SD, "_class_name": "EulerDiscreteScheduler"}), 20)

    assert table.initial_scale == pytest.approx(14.6146, abs=1e-4)
    assert table.timesteps[0] == 999


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.key)
def test_any_number_of_steps_gives_a_table_or_says_why_not(sampler: Sampler, spacing: str) -> None:
    """A table is checked to be finite as it is made, and numpy's warnings are errors here."""
    stated = {**SD, "timestep_spacing": spacing, "steps_offset": 1, "skip_prk_steps": True}
    config = parse(stated, sampler.scheduler_class)
    refused = []
    for schedule in sampler.noise_schedules:
        for steps in (*range(1, 64), 121, 332, 333, 334, 499, 500, 501, 769, 998, 999, 1000):
            try:
                table = table_for(sampler, config, steps, schedule.value)
            except UsageError:
                refused.append(steps)
                continue
            assert len(table) == steps + (sampler.key == "pndm" and steps > 1)
            assert (np.diff(table.timesteps) <= 0).all()
    assert all(steps > 500 for steps in refused)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timesteps": np.zeros(0)}, r"\(0,\)"),
        ({"timesteps": np.zeros((2, 1))}, r"\(2, 1\)"),
        ({"input_scale": np.ones(3)}, r"input_scale \(2,\), not \(3,\)"),
        ({"steps": np.zeros((2, 1, 4))}, r"not \(2, 1, 4\)"),
        ({"steps": np.zeros((3, 1, 3))}, r"not \(3, 1, 3\)"),
        ({"steps": np.zeros((2, 3))}, r"not \(2, 3\)"),
        ({"steps": np.array([[[1, 0, 0]], [[1, np.inf, 0]]])}, "call 1 of 2"),
        ({"timesteps": np.array([np.nan, 0])}, "call 0 of 2"),
        ({"initial_scale": 0.0}, "initial scale"),
        ({"initial_scale": float("nan")}, "initial scale"),
    ],
)
def test_a_table_that_does_not_fit_together_is_refused(change: dict[str, Any], message: str) -> None:
    whole: dict[str, Any] = {
        "timesteps": np.array([2.0, 1.0]),
        "input_scale": np.ones(2),
        "steps": np.zeros((2, 1, 3)),
        "initial_scale": 1.0,
    }
    assert len(Table(**whole)) == 2
    with pytest.raises((ShapeError, ConfigurationError), match=message):
        Table(**{**whole, **change})


def test_a_table_is_its_own_and_does_not_change() -> None:
    steps = np.zeros((1, 2, 4))
    table = Table(timesteps=np.zeros(1), input_scale=np.ones(1), steps=steps, initial_scale=1.0)
    steps[0, 0, 0] = 5

    assert table.steps[0, 0, 0] == 0
    assert table.kept == 1
    with pytest.raises(ValueError, match="read-only"):
        table.steps[0, 0, 0] = 1


def test_nan_in_an_operand_that_is_not_used_does_not_spread() -> None:
    """The first answer is NaN and kept, but nothing ever reads it."""
    steps = np.zeros((2, 2, 4))
    steps[0, 0, 0] = 1  # the latent stays
    steps[0, 1, 2] = 1  # the answer is kept
    steps[1, 0, 0], steps[1, 0, 2] = 1, 0.5
    table = Table(timesteps=np.array([1.0, 0.0]), input_scale=np.ones(2), steps=steps, initial_scale=2.0)

    made = run(table, lambda seen, t: np.full_like(seen, np.nan if t == 1 else 4), np.ones(SHAPE))

    np.testing.assert_array_equal(made, np.full(SHAPE, 2 + 0.5 * 4))
    assert made.dtype == np.float32


def test_the_loop_hands_over_scaled_latents_and_tells_each_step() -> None:
    steps = np.array([[[0.5, 0, 0]], [[0, 1, 0.25]]])
    table = Table(
        timesteps=np.array([7.5, 3]), input_scale=np.array([1, 0.1]), steps=steps, initial_scale=10.0
    )
    seen: list[tuple[float, float]] = []
    told: list[tuple[int, float]] = []
    asked: list[int] = []

    def noise(call: int) -> Array:
        asked.append(call)
        return np.full(SHAPE, 8.0)

    def denoise(latent: Array, timestep: float) -> Array:
        seen.append((float(latent.flat[0]), timestep))
        return np.full(SHAPE, 3.0)

    run(table, denoise, np.ones(SHAPE), noise, lambda i, x: told.append((i, float(x.flat[0]))))

    assert seen == [(10.0, 7.5), (0.5, 3.0)]
    assert told == [(0, 5.0), (1, 5.0)]  # 10·0.5, then 3 + 0.25·8
    assert asked == [1]


def test_a_sampler_that_draws_noise_asks_for_it_before_the_first_call() -> None:
    table = table_for(find("euler_a"), parse(scheduler_config("sdxl-base-1.0")), 4)

    def never(seen: Array, timestep: float) -> Array:
        raise AssertionError("the denoiser was called")

    with pytest.raises(UsageError, match="draws noise at 3 of 4 calls"):
        run(table, never, first_noise())


@pytest.mark.parametrize("wrong", ["answer", "noise"])
def test_a_shape_that_would_broadcast_is_refused(wrong: str) -> None:
    table = table_for(find("euler_a"), parse(scheduler_config("sdxl-base-1.0")), 4)
    shapes = {"answer": SHAPE, "noise": SHAPE, wrong: (1, 4, 5, 3)}

    with pytest.raises(ShapeError, match=r"at call 0 is \(1, 4, 5, 3\); the latent is \(2, 4, 5, 3\)"):
        run(table, lambda *_: np.zeros(shapes["answer"]), first_noise(), lambda _: np.zeros(shapes["noise"]))


@pytest.mark.parametrize(
    ("name", "key", "schedule"),
    [
        ("euler", "euler", None),
        ("Euler", "euler", None),
        ("EulerDiscreteScheduler", "euler", None),
        ("Euler Karras", "euler", NoiseSchedule.KARRAS),
        ("euler a", "euler_a", None),
        ("EULER_A", "euler_a", None),
        ("k_euler_ancestral", "euler_a", None),
        ("eulerancestraldiscretescheduler", "euler_a", None),
        ("DDIM", "ddim", None),
        ("ddimscheduler", "ddim", None),
        ("PLMS", "pndm", None),
        ("pndm", "pndm", None),
        ("DPM++ 2M", "dpm++2m", None),
        ("dpmpp_2m", "dpm++2m", None),
        ("dpmpp-2m", "dpm++2m", None),
        ("DPM++ 2M Karras", "dpm++2m", NoiseSchedule.KARRAS),
        ("dpmpp_2m_karras", "dpm++2m", NoiseSchedule.KARRAS),
        ("dpm++2m normal", "dpm++2m", NoiseSchedule.NORMAL),
        ("DPMSolverMultistepScheduler", "dpm++2m", None),
        ("DPMSolverMultistep", "dpm++2m", None),
    ],
)
def test_find_knows_the_names_people_use(name: str, key: str, schedule: NoiseSchedule | None) -> None:
    sampler = find(name)

    assert (sampler.key, sampler.noise_schedule) == (key, schedule)


@pytest.mark.parametrize("name", ["", "heun", "karras", "eulerr", "DPM++ 3M SDE"])
def test_find_lists_what_there_is(name: str) -> None:
    with pytest.raises(UsageError, match=r"no sampler .*euler, euler_a, ddim, pndm, dpm\+\+2m"):
        find(name)


def test_a_name_with_a_schedule_that_the_sampler_does_not_take() -> None:
    with pytest.raises(UsageError, match=r"DDIM does not take the karras .*Euler, DPM\+\+ 2M"):
        find("DDIM Karras")


def test_every_name_means_one_sampler_and_every_class_has_one() -> None:
    for sampler in SAMPLERS:
        for name in (sampler.key, sampler.title, *sampler.aliases):
            assert find(name) is sampler, name
    assert {sampler.scheduler_class for sampler in SAMPLERS} == set(SCHEDULER_CLASSES)


@pytest.mark.parametrize(
    ("sampler", "asked", "stated", "karras"),
    [
        ("dpm++2m", None, False, False),
        ("dpm++2m", None, True, True),
        ("dpm++2m", "karras", False, True),
        ("dpm++2m", "Normal", True, False),
        ("DPM++ 2M Karras", None, False, True),
        ("DPM++ 2M Karras", "karras", False, True),
        ("dpm++2m normal", None, True, False),
    ],
)
def test_who_decides_the_noise_schedule(sampler: str, asked: str | None, stated: bool, karras: bool) -> None:
    """The caller before the sampler's name, the name before the config."""
    plain = parse(SD, "DPMSolverMultistepScheduler")
    expected = table_for(
        find("dpm++2m"), parse({**SD, "use_karras_sigmas": karras}, plain.scheduler_class), 9
    )

    table = table_for(
        find(sampler), parse({**SD, "use_karras_sigmas": stated}, plain.scheduler_class), 9, asked
    )

    np.testing.assert_array_equal(table.steps, expected.steps)
    assert np.array_equal(table.steps, table_for(find("dpm++2m"), plain, 9).steps) is not karras


@pytest.mark.parametrize(
    ("sampler", "asked", "message"),
    [
        ("ddim", "karras", "DDIM does not take the karras"),
        ("euler_a", "karras", "Euler a does not take the karras"),
        ("euler", "polyexponential", "no noise schedule 'polyexponential'.*normal, karras"),
        ("DPM++ 2M Karras", "normal", "named with the karras noise schedule, but normal was asked for"),
    ],
)
def test_noise_schedules_that_cannot_be(sampler: str, asked: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        table_for(find(sampler), parse(scheduler_config("sdxl-base-1.0")), 20, asked)


@pytest.mark.parametrize("steps", [-1, 0, 1001])
def test_a_number_of_steps_that_the_model_does_not_have(steps: int) -> None:
    with pytest.raises(UsageError, match=rf"{steps} inference steps .* 1 to 1000"):
        table_for(find("euler"), parse(scheduler_config("sdxl-base-1.0")), steps)


def test_runge_kutta_needs_four_steps() -> None:
    config = parse({**SD, "_class_name": "PNDMScheduler"})

    assert len(table_for(find("pndm"), config, 4)) == 13
    with pytest.raises(UsageError, match="at least 4 steps, not 3"):
        table_for(find("pndm"), config, 3)


def test_no_signal_is_left_for_epsilon() -> None:
    config = parse({**SD, "timestep_spacing": "trailing", "rescale_betas_zero_snr": True}, "DDIMScheduler")

    with pytest.raises(ConfigurationError, match=r"prediction_type='epsilon' .* timestep 999"):
        table_for(find("ddim"), config, 20)


@pytest.mark.parametrize("name", ["UniPCMultistepScheduler", "", 7, None])
def test_an_unknown_scheduler_lists_what_is_known(name: object) -> None:
    with pytest.raises(ConfigurationError, match=r"EulerDiscreteScheduler, .*DPMSolverMultistepScheduler"):
        parse({**SD, "_class_name": name})


def test_an_unknown_schedulers_config_serves_a_sampler_that_is_picked() -> None:
    written = {**SD, "_class_name": "UniPCMultistepScheduler", "solver_type": "bh2", "steps_offset": 1}

    config = parse(written, find("dpm++2m").scheduler_class)

    assert config.solver_type.value == "midpoint"
    assert len(table_for(find("dpm++2m"), config, 20)) == 20


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("DDIMScheduler", "clip_sample", True),
        ("DDIMScheduler", "thresholding", True),
        ("DDIMScheduler", "prediction_type", "flow_prediction"),
        ("DDIMScheduler", "set_alpha_to_one", "yes"),
        ("DPMSolverMultistepScheduler", "thresholding", True),
        ("DPMSolverMultistepScheduler", "algorithm_type", "sde-dpmsolver++"),
        ("DPMSolverMultistepScheduler", "solver_order", 3),
        ("DPMSolverMultistepScheduler", "solver_type", "bh3"),
        ("DPMSolverMultistepScheduler", "use_lu_lambdas", True),
        ("DPMSolverMultistepScheduler", "use_flow_sigmas", True),
        ("DPMSolverMultistepScheduler", "use_dynamic_shifting", True),
        ("DPMSolverMultistepScheduler", "lambda_min_clipped", -5.1),
        ("DPMSolverMultistepScheduler", "variance_type", "learned_range"),
        ("EulerDiscreteScheduler", "use_exponential_sigmas", True),
        ("EulerDiscreteScheduler", "use_beta_sigmas", True),
        ("EulerDiscreteScheduler", "interpolation_type", "log_linear"),
        ("EulerDiscreteScheduler", "timestep_type", "continuous"),
        ("EulerDiscreteScheduler", "final_sigmas_type", "half"),
        ("EulerDiscreteScheduler", "sigma_min", -1.0),
        ("EulerDiscreteScheduler", "timestep_spacing", "squared"),
        ("EulerDiscreteScheduler", "beta_schedule", "sigmoid"),
        ("EulerDiscreteScheduler", "beta_start", "0.1"),
        ("EulerDiscreteScheduler", "beta_end", 1.5),
        ("EulerDiscreteScheduler", "num_train_timesteps", 0),
        ("EulerDiscreteScheduler", "num_train_timesteps", True),
        ("EulerDiscreteScheduler", "steps_offset", -1),
        ("EulerDiscreteScheduler", "trained_betas", [0.1, 0.2]),
        ("EulerDiscreteScheduler", "trained_betas", "linear"),
        ("EulerAncestralDiscreteScheduler", "prediction_type", "sample"),
        ("PNDMScheduler", "prediction_type", "sample"),
        ("PNDMScheduler", "skip_prk_steps", 1),
    ],
)
def test_a_value_that_cannot_be_run_is_named(name: str, key: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=key) as caught:
        parse({**SD, "_class_name": name, key: value})
    shown = len(value) if isinstance(value, list) else value
    assert str(shown) in str(caught.value)


def test_what_only_other_classes_take_means_nothing() -> None:
    """Saved configs carry other classes' keys; DDIM's clip_sample does not concern Euler."""
    written = {**SD, "_class_name": "DDIMScheduler", "clip_sample": True, "thresholding": True, "novel": 1}

    euler = parse(written, "EulerDiscreteScheduler")

    assert replace(euler, stated=()) == replace(parse(SD, "EulerDiscreteScheduler"), stated=())
    with pytest.raises(ConfigurationError, match="thresholding=True"):
        euler.for_class("DPMSolverMultistepScheduler")


def test_a_change_of_class_keeps_what_was_stated_and_takes_the_other_defaults() -> None:
    pndm = parse(scheduler_config("sd-1.5"))

    euler = pndm.for_class("EulerDiscreteScheduler")

    assert (pndm.timestep_spacing.value, euler.timestep_spacing.value) == ("leading", "linspace")
    assert (euler.beta_start, euler.steps_offset) == (0.00085, 1)
    assert euler.for_class("PNDMScheduler") == pndm


def test_null_switches_are_off() -> None:
    config = parse(
        {"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": None, "use_beta_sigmas": None}
    )

    assert config.use_karras_sigmas is False


def test_errors_of_configs_are_errors_of_input() -> None:
    with pytest.raises(OnnxsdError) as caught:
        parse({"_class_name": "DDIMScheduler", "clip_sample": True})
    assert caught.value.exit_code == 3
    assert "clip_sample to false" in str(caught.value)
