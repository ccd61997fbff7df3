#!/usr/bin/env python3
"""Derives the minimax polynomials of Sources/Kernels/Vectors/ElementaryFunctions+*.swift.

Each polynomial is the one that minimises the largest weighted error over its interval (Remez exchange,
60 digits). Its coefficients are then rounded to the target format; the error printed is that of the
rounded polynomial.

    python3 Scripts/derive_polynomials.py        # needs mpmath; prints the Swift tables
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from mpmath import mp, mpf

mp.dps = 60

Function = Callable[[mpf], mpf]


def round_to(value: mpf, scalar: str) -> mpf:
    if scalar == "Double":
        return mpf(float(value))
    return mpf(struct.unpack("f", struct.pack("f", float(value)))[0])


@dataclass(frozen=True)
class Fit:
    name: str
    scalar: str
    degree: int
    low: mpf
    high: mpf
    function: Function
    weight: Function  # the error that counts is weight(x) * (function(x) - polynomial(x))
    meaning: str


def solve_reference(fit: Fit, points: list[mpf]) -> list[mpf]:
    """The coefficients that level the weighted error on the points."""
    free = fit.degree + 1
    matrix = mp.matrix(free + 1, free + 1)
    right = mp.matrix(free + 1, 1)
    for row, x in enumerate(points):
        for column in range(free):
            matrix[row, column] = x**column
        matrix[row, free] = (-1) ** row / fit.weight(x)
        right[row] = fit.function(x)
    solution = mp.lu_solve(matrix, right)
    return [solution[i] for i in range(free)]


def weighted_error(fit: Fit, coefficients: list[mpf], x: mpf) -> mpf:
    return fit.weight(x) * (fit.function(x) - mp.polyval(coefficients[::-1], x))


def remez(fit: Fit) -> list[mpf]:
    count = fit.degree + 2
    middle, half = (fit.low + fit.high) / 2, (fit.high - fit.low) / 2
    points = [middle - half * mp.cos(mp.pi * i / (count - 1)) for i in range(count)]
    grid = [middle - half * mp.cos(mp.pi * mpf(i) / 600) for i in range(601)]
    coefficients: list[mpf] = []
    for _ in range(12):
        coefficients = solve_reference(fit, points)
        errors = [weighted_error(fit, coefficients, x) for x in grid]
        extrema: list[int] = []
        for i, error in enumerate(errors):
            if extrema and errors[extrema[-1]] * error > 0:
                if abs(error) > abs(errors[extrema[-1]]):
                    extrema[-1] = i
            else:
                extrema.append(i)
        while len(extrema) > count:
            extrema.pop(0 if abs(errors[extrema[0]]) < abs(errors[extrema[-1]]) else -1)
        if len(extrema) < count:
            break
        points = [grid[i] for i in extrema]
    return coefficients


def derive(fit: Fit) -> tuple[list[mpf], mpf]:
    rounded = [round_to(c, fit.scalar) for c in remez(fit)]
    steps = [fit.low + (fit.high - fit.low) * mpf(i) / 2000 for i in range(2001)]
    return rounded, max(abs(weighted_error(fit, rounded, x)) for x in steps)


def exp_tail(x: mpf) -> mpf:
    """(e^x - 1 - x) / x², by its series where the closed form cancels."""
    if abs(x) < mpf("1e-8"):
        return mpf(1) / 2 + x / 6 + x * x / 24
    return (mp.expm1(x) - x) / (x * x)


def exp_slope(x: mpf) -> mpf:
    """(e^x - 1) / x."""
    return 1 + x / 2 if abs(x) < mpf("1e-20") else mp.expm1(x) / x


def log_slope(x: mpf) -> mpf:
    """log(1 + x) / x."""
    return 1 - x / 2 if abs(x) < mpf("1e-20") else mp.log1p(x) / x


def log_tail(f: mpf) -> mpf:
    """(log(1+f) - f + f²/2) / f³."""
    if abs(f) < mpf("1e-8"):
        return mpf(1) / 3 - f / 4 + f * f / 5
    return (mp.log1p(f) - f + f * f / 2) / f**3


def log_residue(z: mpf) -> mpf:
    """(log((1+s)/(1-s)) - 2s) / s³ with z = s²."""
    if z < mpf("1e-16"):
        return mpf(2) / 3 + 2 * z / 5
    s = mp.sqrt(z)
    return (mp.log((1 + s) / (1 - s)) - 2 * s) / (s * z)


HALF_LN2 = mp.log(2) / 2 * mpf("1.0001")
SIXTYFOURTH_LN2 = mp.log(2) / 64 * mpf("1.001")
LOG_LOW, LOG_HIGH = mp.sqrt(mpf(1) / 2) - 1, mp.sqrt(mpf(2)) - 1
S_HIGH = (LOG_HIGH / (2 + LOG_HIGH)) ** 2


def exp_weight(x: mpf) -> mpf:
    return (x * x + mpf("1e-4")) / mp.exp(x)


def exp_slope_weight(x: mpf) -> mpf:
    return (abs(x) + mpf("1e-4")) / mp.exp(x)


def log_weight(f: mpf) -> mpf:
    return f * f + mpf("1e-4")


FITS = [
    Fit("exponentialTail", "Float", 4, -HALF_LN2, HALF_LN2, exp_tail, exp_weight,
        "(eʳ − 1 − r) / r² for |r| ≤ ln 2 / 2"),
    Fit("exponentialSlope", "Float", 4, -HALF_LN2, HALF_LN2, exp_slope, exp_slope_weight,
        "(eʳ − 1) / r for |r| ≤ ln 2 / 2"),
    Fit("exponentialSlopeOfThirtySeconds", "Float", 1, -SIXTYFOURTH_LN2, SIXTYFOURTH_LN2, exp_slope,
        lambda x: (abs(x) + mpf("1e-6")) / mp.exp(x), "(eʳ − 1) / r for |r| ≤ ln 2 / 64"),
    Fit("logarithmTail", "Float", 7, LOG_LOW, LOG_HIGH, log_tail, log_weight,
        "(log(1 + f) − f + f²/2) / f³ for √½ ≤ 1 + f ≤ √2"),
    Fit("logarithmSlope", "Float", 9, mpf(0), mpf(1), log_slope, lambda x: 1 / log_slope(x),
        "log(1 + x) / x for 0 ≤ x ≤ 1"),
    Fit("exponentialTail", "Double", 10, -HALF_LN2, HALF_LN2, exp_tail, exp_weight,
        "(eʳ − 1 − r) / r² for |r| ≤ ln 2 / 2"),
    Fit("logarithmResidue", "Double", 6, mpf(0), S_HIGH, log_residue, lambda z: z + mpf("1e-4"),
        "(log((1 + s)/(1 − s)) − 2s) / s³ in z = s², s = f / (2 + f)"),
]


def powers_of_two() -> list[int]:
    """The bits of 2^(j/32) less 127 in the exponent and j at the top of the significand."""
    words = [struct.unpack("I", struct.pack("f", float(mpf(2) ** (mpf(j) / 32))))[0] for j in range(32)]
    return [(word - (127 << 23) - (j << 18)) & 0xFFFFFFFF for j, word in enumerate(words)]


def main() -> None:
    for fit in FITS:
        coefficients, error = derive(fit)
        print(f"// {fit.scalar}.{fit.name}: {fit.meaning}")
        print(f"// largest relative error before rounding of the evaluation: {mp.nstr(error, 3)}")
        digits = 9 if fit.scalar == "Float" else 17
        for power, c in enumerate(coefficients):
            print(f"  {float(c):.{digits}g},  // x^{power}  {float(c).hex()}")
    print("// Float.powersOfTwo: 2^(j/32) on AVX-512")
    print("  " + ", ".join(f"0x{word:08x}" for word in powers_of_two()))


if __name__ == "__main__":
    main()
