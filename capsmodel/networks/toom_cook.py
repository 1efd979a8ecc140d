"""The matrices of Toom-Cook (Winograd) transforms along one axis, exact."""

import math
from fractions import Fraction

import numpy as np

# The points where polynomials are evaluated, besides infinity; an axis with fewer points takes the
# first ones. Of 1,365 sets of four small fractions, taken as +-x, this set has the smallest errors
# with 10 points: their root mean squares are 1.4e-5 for outputs, 1.1e-5 for the input's gradient
# and 0.8e-5 for the kernel's, half of those with +-1, +-1/2, +-2.
_POINTS = tuple(
    Fraction(*point)
    for point in ((0, 1), (3, 4), (-3, 4), (4, 3), (-4, 3), (2, 5), (-2, 5), (5, 2), (-5, 2))
)

# With infinity.
MOST_POINTS = len(_POINTS) + 1

Matrix = list[list[Fraction]]


def toom_cook(outputs: int, taps: int) -> tuple[Matrix, Matrix, Matrix]:
    """Matrices A, G, B with y = A^T ((G g) * (B^T d)), * being elementwise.

    y_i = sum_k g_k d_(i+k) for `outputs` y, `taps` g and n = outputs + taps - 1 d.

    Take polynomials a and g with `outputs` and `taps` coefficients. Their product c = a g has n
    coefficients, and so is given by its values at n points, each the product of those of a and g:
    with V_k for the matrix that evaluates k coefficients,

        V_n c = (V_outputs a) * (V_taps g)   or   c = V_n^-1 ((V_outputs a) * (V_taps g)).

    At infinity, the last point, the value is the highest coefficient. For given g this is a linear
    map from a to c, c_l = sum_i g_(l-i) a_i, and its transpose, y_i = sum_l g_(l-i) d_l, is the
    convolution asked for:

        y = V_outputs^T ((V_taps g) * (V_n^-T d)).

    So A = V_outputs, G = V_taps, B = V_n^-1. Column p of V_n^-1 holds the coefficients of the
    polynomial that is 1 at point p and 0 at the others, by Lagrange's formula.

    A point's factors can be moved among the matrices: powers of two, which cost no accuracy, give
    its row of G and its column of B lengths close to 1.

    Args:
        outputs: number of outputs, at least 1.
        taps: number of taps, at least 1; outputs + taps - 1 is at most 10.

    Returns:
        A [n, outputs], G [n, taps], B [n, n], exact.
    """
    n = outputs + taps - 1
    points = _POINTS[: n - 1]
    a, g = _evaluation(points, outputs), _evaluation(points, taps)
    columns = []
    for p in points:
        others = [q for q in points if q != p]
        scale = math.prod((p - q for q in others), start=Fraction(1))
        columns.append([x / scale for x in _with_roots(others)] + [Fraction(0)])
    columns.append(_with_roots(points))
    for row in range(n):
        of_g, of_b = _power_of_two(g[row]), _power_of_two(columns[row])
        g[row] = [x / of_g for x in g[row]]
        columns[row] = [x / of_b for x in columns[row]]
        a[row] = [x * of_g * of_b for x in a[row]]
    return a, g, [list(row) for row in zip(*columns, strict=True)]


def _evaluation(points: tuple[Fraction, ...], coefficients: int) -> Matrix:
    infinity = [Fraction(0)] * (coefficients - 1) + [Fraction(1)]
    return [[p**k for k in range(coefficients)] for p in points] + [infinity]


def _with_roots(roots: list[Fraction] | tuple[Fraction, ...]) -> list[Fraction]:
    """Coefficients, from the lowest, of the product of (x - root)."""
    product = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *product], [*(root * x for x in product), Fraction(0)]
        product = [x - y for x, y in zip(shifted, scaled, strict=True)]
    return product


def _power_of_two(row: list[Fraction]) -> Fraction:
    """The power of two nearest to the row's length."""
    return Fraction(2) ** round(np.log2(float(sum(x * x for x in row))) / 2)
