"""What a trained network was found to do."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Measure:
    """A figure of a trained network.

    Attributes:
        condition: What it was measured on, in a few words.
        error_percent: Wrong answers per 100.
        refused_percent: What the guard refused, per 100 images; None: not asked.
    """

    condition: str
    error_percent: float
    refused_percent: float | None = None
