"""Agreement: how far a program gives the predictions of the reference, and how far it must.

Pure records and their limits. `compare.py` measures, `parity.py` says what is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True)
class Agreement:
    """How some rows of two tables agree; None where the columns have nothing of that kind.

    Figures are rounded, so that they are the same wherever they are written down.
    """

    rows: int
    cosine_min: float | None = None
    """Of the two vectors of a row, the worst row; below the cosine where their lengths differ."""
    cosine_mean: float | None = None
    score_difference_max: float | None = None
    """Of two scores up to 1 absolute, of larger ones relative."""
    score_difference_mean: float | None = None
    label_agreement: float | None = None
    """Share of rows with the same labels, 0 to 1; of bits, where vectors are binary."""
    non_finite_rows: int = 0
    """Rows that one predicts and the other does not: NaN, infinity, a vector without a direction."""


@dataclass(frozen=True, slots=True)
class ShapeAgreement:
    """What was found of the program of one shape."""

    shape: str
    agreement: Agreement
    worst_rows: tuple[int, ...] = ()
    """Ordinals of the rows that agree least, worst first."""
    padding_error: float | None = None
    """How far the reference's own outputs change with padding, relative; None: not measured in this shape."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The least agreement that passes."""

    cosine: float
    """Least of any row."""
    score_difference: float
    """Largest of any row."""
    label_share: float
    """Share of rows whose labels may differ, 0 to 1."""
    output_error: float
    """A row whose program outputs differ by no more, relative to their length, has an even choice where its
    labels differ, not a wrong one."""


_TOLERANCES = {
    # Other kernels sum in another order: 1e-6 on the models tried. What a masking error does is a thousand
    # times that, so the limit leaves room for deep models and is still narrow.
    "float32": Tolerance(cosine=0.9999, score_difference=2e-3, label_share=0.0, output_error=2e-3),
    # Eight bits of mantissa: half a percent for each rounding. Whole encoders were seen at a cosine of 0.9999
    # (MiniLM) and scores 0.02 apart where two classes are even.
    "bfloat16": Tolerance(cosine=0.998, score_difference=0.06, label_share=0.02, output_error=0.05),
}


@dataclass(frozen=True, slots=True)
class Parity:
    """What a run knows of its programs beside the reference."""

    status: Literal["reference", "off", "measured"]
    """`reference`: the backend is what others are compared with; `off`: `backend.parity_rows: 0`."""
    tolerance: Tolerance | None = None
    shapes: tuple[ShapeAgreement, ...] = ()

    @property
    def overall(self) -> Agreement | None:
        """All shapes in one record: rows added up, the worst of each figure; None where none was measured."""
        found = [shape.agreement for shape in self.shapes if shape.agreement.rows]
        return join_agreements(found) if found else None


def find_tolerance(precision: str, label_share: float | None = None) -> Tolerance:
    """The limits of a precision; types with less than 32 bits have those of bfloat16.

    Args:
        precision: `float32`, `bfloat16`, …
        label_share: `backend.parity_tolerance` of the spec, in place of the share of differing labels.
    """
    limits = _TOLERANCES.get(precision, _TOLERANCES["bfloat16"])
    return limits if label_share is None else replace(limits, label_share=label_share)


def find_excesses(agreement: Agreement, tolerance: Tolerance) -> tuple[str, ...]:
    """One line for each figure beyond its limit; none: they agree."""
    lines = []
    if agreement.non_finite_rows:
        lines.append(f"{agreement.non_finite_rows} of {agreement.rows} rows give NaN, infinity or no vector")
    if agreement.cosine_min is not None and agreement.cosine_min < tolerance.cosine:
        lines.append(
            f"cosine of the vectors {agreement.cosine_min:.6f}, at least {tolerance.cosine:g} is needed"
        )
    difference = agreement.score_difference_max
    if difference is not None and difference > tolerance.score_difference:
        lines.append(f"scores differ by {difference:.2g}, at most {tolerance.score_difference:g} is allowed")
    labels = agreement.label_agreement
    if labels is not None and round(1 - labels, 6) > tolerance.label_share:
        lines.append(f"labels agree in {labels:.1%}, at least {1 - tolerance.label_share:.1%} is needed")
    return tuple(lines)


def join_agreements(found: Sequence[Agreement]) -> Agreement:
    """One record of several: means over all rows, the worst of the others."""
    rows = sum(one.rows for one in found)

    def mean(name: str) -> float | None:
        known = [(getattr(one, name), one.rows) for one in found if getattr(one, name) is not None]
        weight = sum(count for _, count in known)
        return round(sum(value * count for value, count in known) / weight, 6) if weight else None

    cosines = [one.cosine_min for one in found if one.cosine_min is not None]
    differences = [one.score_difference_max for one in found if one.score_difference_max is not None]
    return Agreement(
        rows=rows,
        cosine_min=min(cosines, default=None),
        cosine_mean=mean("cosine_mean"),
        score_difference_max=max(differences, default=None),
        score_difference_mean=mean("score_difference_mean"),
        label_agreement=mean("label_agreement"),
        non_finite_rows=sum(one.non_finite_rows for one in found),
    )
