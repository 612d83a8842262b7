"""What the vocabulary means, in plain numpy and float64, from the papers' formulas and nothing of onnxsd."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_erf = np.vectorize(math.erf, otypes=[np.float64])


def conv(
    x: Array, weight: Array, bias: Array, *, stride: int = 1, padding: tuple[int, ...] = (1, 1, 1, 1)
) -> Array:
    """x (B, C, H, W), weight (out, C, k, k); padding is top, left, bottom, right."""
    top, left, bottom, right = padding
    kernel = weight.shape[2]
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
    taken = windows[:, :, ::stride, ::stride]
    return np.einsum("bchwij,ocij->bohw", taken, weight) + bias[:, None, None]


def linear(x: Array, weight: Array, bias: Array | float = 0.0) -> Array:
    """x·Wᵀ + b."""
    return x @ weight.T + bias


def gelu(x: Array) -> Array:
    """x·Φ(x)."""
    return x * 0.5 * (1.0 + _erf(x / math.sqrt(2.0)))


def silu(x: Array, alpha: float = 1.0) -> Array:
    """x·sigmoid(alpha·x)."""
    return x / (1.0 + np.exp(-alpha * x))


def geglu(x: Array, weight: Array, bias: Array) -> Array:
    """The left half of a linear times the gelu of its right half."""
    left, right = np.split(linear(x, weight, bias), 2, axis=-1)
    return left * gelu(right)


def group_norm(x: Array, weight: Array, bias: Array, *, groups: int, eps: float) -> Array:
    """x (B, C, H, W), normalized over (C / groups, H, W)."""
    grouped = x.reshape(x.shape[0], groups, -1)
    centred = grouped - grouped.mean(2, keepdims=True)
    normed = (centred / np.sqrt((centred**2).mean(2, keepdims=True) + eps)).reshape(x.shape)
    return normed * weight[:, None, None] + bias[:, None, None]


def layer_norm(x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
    """Normalized over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weight + bias


def attention(query: Array, key: Array, value: Array, *, heads: int, causal: bool = False) -> Array:
    """softmax(Q·Kᵀ/√d)·V for each head; query (B, S, C), key and value (B, T, C)."""
    q, k, v = (x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3) for x in (query, key, value))
    scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(q.shape[-1])
    if causal:
        scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return (weights @ v).transpose(0, 2, 1, 3).reshape(query.shape)


def upsample(x: Array, height: int, width: int) -> Array:
    """Each row and column twice, cut to (height, width)."""
    return x.repeat(2, axis=2).repeat(2, axis=3)[:, :, :height, :width]


def tokens(x: Array) -> Array:
    """(B, C, H, W) → (B, H·W, C)."""
    return x.reshape(*x.shape[:2], -1).transpose(0, 2, 1)


def feature_map(x: Array, height: int, width: int) -> Array:
    """(B, H·W, C) → (B, C, H, W)."""
    return x.transpose(0, 2, 1).reshape(x.shape[0], x.shape[2], height, width)


def sinusoid(x: Array, width: int, *, cosine_first: bool, shift: float) -> Array:
    """Sines and cosines of x·10000^(−i / (width/2 − shift))."""
    half = width // 2
    angles = x[..., None] * 10000.0 ** (-np.arange(half) / (half - shift))
    parts = [np.sin(angles), np.cos(angles)]
    return np.concatenate(parts[::-1] if cosine_first else parts, axis=-1)
