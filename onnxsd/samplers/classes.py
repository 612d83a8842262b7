"""The arguments of diffusers' scheduler classes at their defaults, and which values of them onnxsd runs."""

from __future__ import annotations

from collections.abc import Mapping

_COMMON: Mapping[str, object] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "steps_offset": 0,
}

# Arguments that change nothing while their switch (thresholding, use_flow_sigmas, …) is off are listed too:
# the reference tests compare each entry with the signature of the class.
SCHEDULER_CLASSES: Mapping[str, Mapping[str, object]] = {
    "EulerDiscreteScheduler": {
        **_COMMON,
        "interpolation_type": "linear",
        "use_karras_sigmas": False,
        "use_exponential_sigmas": False,
        "use_beta_sigmas": False,
        "sigma_min": None,
        "sigma_max": None,
        "timestep_spacing": "linspace",
        "timestep_type": "discrete",
        "rescale_betas_zero_snr": False,
        "final_sigmas_type": "zero",
    },
    "EulerAncestralDiscreteScheduler": {
        **_COMMON,
        "timestep_spacing": "linspace",
        "rescale_betas_zero_snr": False,
    },
    "DDIMScheduler": {
        **_COMMON,
        # True in diffusers' signature, which is meant for pixels: its Stable Diffusion pipeline switches it
        # off again, as a latent is not bounded by 1. Only a config that says true is taken at its word.
        "clip_sample": False,
        "clip_sample_range": 1.0,
        "set_alpha_to_one": True,
        "thresholding": False,
        "dynamic_thresholding_ratio": 0.995,
        "sample_max_value": 1.0,
        "timestep_spacing": "leading",
        "rescale_betas_zero_snr": False,
    },
    "PNDMScheduler": {
        **_COMMON,
        "skip_prk_steps": False,
        "set_alpha_to_one": False,
        "timestep_spacing": "leading",
    },
    "DPMSolverMultistepScheduler": {
        **_COMMON,
        "solver_order": 2,
        "thresholding": False,
        "dynamic_thresholding_ratio": 0.995,
        "sample_max_value": 1.0,
        "algorithm_type": "dpmsolver++",
        "solver_type": "midpoint",
        "lower_order_final": True,
        "euler_at_final": False,
        "use_karras_sigmas": False,
        "use_exponential_sigmas": False,
        "use_beta_sigmas": False,
        "use_lu_lambdas": False,
        "use_flow_sigmas": False,
        "flow_shift": 1.0,
        "final_sigmas_type": "zero",
        "lambda_min_clipped": float("-inf"),
        "variance_type": None,
        "timestep_spacing": "linspace",
        "rescale_betas_zero_snr": False,
        "use_dynamic_shifting": False,
        "time_shift_type": "exponential",
    },
}

# Arguments of which only these values are run; None is how Python callers leave an optional switch off.
ONLY: Mapping[str, tuple[object, ...]] = {
    "clip_sample": (False, None),
    "thresholding": (False, None),
    "interpolation_type": ("linear",),
    "timestep_type": ("discrete",),
    "use_exponential_sigmas": (False, None),
    "use_beta_sigmas": (False, None),
    "use_lu_lambdas": (False, None),
    "use_flow_sigmas": (False, None),
    "use_dynamic_shifting": (False, None),
    "lambda_min_clipped": (float("-inf"), "-inf", "-Infinity"),
    "variance_type": (None,),
    "solver_order": (1, 2),
    "algorithm_type": ("dpmsolver++",),
}

# diffusers' classes refuse "sample" here as well.
PREDICTIONS: Mapping[str, tuple[str, ...]] = {
    "EulerAncestralDiscreteScheduler": ("epsilon", "v_prediction"),
    "PNDMScheduler": ("epsilon", "v_prediction"),
}

# What DPMSolverMultistepScheduler makes of a config that DEIS or UniPC wrote, by its own constructor.
TRANSLATIONS: Mapping[tuple[str, str, object], object] = {
    ("DPMSolverMultistepScheduler", "algorithm_type", "deis"): "dpmsolver++",
    ("DPMSolverMultistepScheduler", "solver_type", "logrho"): "midpoint",
    ("DPMSolverMultistepScheduler", "solver_type", "bh1"): "midpoint",
    ("DPMSolverMultistepScheduler", "solver_type", "bh2"): "midpoint",
}

# What a class without the argument does, for the fields that every config has.
WITHOUT: Mapping[str, object] = {
    "use_karras_sigmas": False,
    "sigma_min": None,
    "sigma_max": None,
    "final_sigmas_type": "zero",
    "rescale_betas_zero_snr": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "solver_order": 1,
    "solver_type": "midpoint",
    "lower_order_final": True,
    "euler_at_final": False,
}
