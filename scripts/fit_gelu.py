"""The coefficients of geglu.cu's normal tail, and how far off they are.

Usage: python scripts/fit_gelu.py

The tail of the normal distribution is Q(a) = erfc(a/√2)/2 = exp(−a²/2)·M(a). M is smooth: a polynomial in
t = 1/(1 + k·a), chosen so that the largest relative error over 0 ≤ a ≤ 9 is smallest (a linear program).
Beyond 9, Q is below what float16 can hold even of the largest number times it.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog
from scipy.special import erfcx

SLOPE = 0.35
DEGREE = 5
POINTS = np.linspace(0.0, 9.0, 3000)


def main() -> None:
    """Print the coefficients, constant first, and the relative error in float64."""
    exact = 0.5 * erfcx(POINTS / np.sqrt(2.0))
    powers = (1.0 / (1.0 + SLOPE * POINTS))[:, None] ** np.arange(DEGREE + 1)
    relative, ones, bound = powers / exact[:, None], np.ones(len(POINTS)), np.ones((len(POINTS), 1))
    found = linprog(
        np.eye(DEGREE + 2)[-1],
        A_ub=np.block([[relative, -bound], [-relative, -bound]]),
        b_ub=np.concatenate([ones, -ones]),
        bounds=[(None, None)] * (DEGREE + 2),
    )
    *coefficients, error = found.x
    print("slope", SLOPE)
    for power, coefficient in enumerate(coefficients):
        print(f"t^{power} {coefficient:.9e}")
    print(f"largest relative error {error:.1e}")


if __name__ == "__main__":
    main()
