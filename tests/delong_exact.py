"""DeLong's test over rows, written from the paper's formulas: what the masked sums must agree with."""

import numpy as np
from numpy.typing import NDArray


def exact(
    first: NDArray[np.float64], second: NDArray[np.float64], y: NDArray[np.int8]
) -> tuple[float, float]:
    """Return AUC of the first less AUC of the second, and its standard error (Biometrics 44, 1988, eq. 2 to 6)."""
    theta, tens, ones = [], [], []
    for score in (first, second):
        x, z = score[y == 1], score[y == 0]
        psi = (x[:, None] > z[None, :]) + 0.5 * (x[:, None] == z[None, :])
        theta.append(psi.mean())
        tens.append(psi.mean(axis=1))
        ones.append(psi.mean(axis=0))
    s10 = np.cov(np.stack(tens), ddof=1)
    s01 = np.cov(np.stack(ones), ddof=1)
    s = s10 / (y == 1).sum() + s01 / (y == 0).sum()
    contrast = np.array([1.0, -1.0])
    return float(theta[0] - theta[1]), float(np.sqrt(contrast @ s @ contrast))
