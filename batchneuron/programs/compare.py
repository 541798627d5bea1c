"""Compare: two tables of predictions for the same rows, by their Arrow types, row by row.

Pure. Vectors are compared by their cosine, scores by their difference, words and numbers by whether they
are equal. Of a ranked list the first counts, of a list of lists every one; entities all count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchneuron.programs.agreement import Agreement

_Figures = NDArray[np.float64]
_QUANTISED = b"int8_steps"  # a column of whole numbers that stand for others; without it they are packed bits
_PLACES = {"word", "start", "end"}  # entities stand in the order of the text, answers in that of their scores


@dataclass(frozen=True, slots=True)
class RowAgreement:
    """How A rows agree; NaN where a row has nothing of that kind."""

    cosines: _Figures
    """[A]"""
    differences: _Figures
    """Of scores: [A]"""
    equal: _Figures
    """1 where labels are equal, the share of equal bits of binary vectors: [A]"""
    is_broken: NDArray[np.bool_]
    """Rows that only one of the two predicts: [A]"""

    def excuse(self, is_even: NDArray[np.bool_]) -> RowAgreement:
        """The same with these rows' labels taken as equal: [A]."""
        equal = np.where(is_even & ~np.isnan(self.equal), 1.0, self.equal)
        return RowAgreement(self.cosines, self.differences, equal, self.is_broken)

    def summarize(self) -> Agreement:
        """All rows in one record, figures rounded."""
        return Agreement(
            rows=len(self.is_broken),
            cosine_min=_pick(np.nanmin, self.cosines, 6),
            cosine_mean=_pick(np.nanmean, self.cosines, 6),
            score_difference_max=_pick(np.nanmax, self.differences, 6),
            score_difference_mean=_pick(np.nanmean, self.differences, 6),
            label_agreement=_pick(np.nanmean, self.equal, 6),
            non_finite_rows=int(self.is_broken.sum()),
        )

    def find_worst(self, count: int) -> NDArray[np.intp]:
        """Places of the rows that agree least, worst first: at most `count`, none that agree in full."""
        unlike = np.nan_to_num(1 - self.equal) + np.nan_to_num(self.differences)
        unlike = 10.0 * self.is_broken + unlike + np.nan_to_num(1 - self.cosines)
        worst = np.argsort(-unlike, kind="stable")[:count]
        return worst[unlike[worst] > 0]


def compare_tables(ours: pa.Table, reference: pa.Table) -> RowAgreement:
    """How two tables of one schema agree; a row that is null or not finite in one of them is broken."""
    rows = ours.num_rows
    is_broken = np.zeros(rows, dtype=np.bool_)
    is_null = np.zeros(rows, dtype=np.bool_)
    for name in reference.column_names:
        mine, theirs = (table[name].is_null().to_numpy() for table in (ours, reference))
        is_broken |= mine != theirs
        is_null |= mine | theirs
    there = np.flatnonzero(~is_null)
    columns: dict[str, list[_Figures]] = {"cosine": [], "score": [], "label": []}
    for field in reference.schema:
        pair = (table[field.name].take(pa.array(there)).combine_chunks() for table in (ours, reference))
        for kind, figures in _compare_column(field, *pair):
            columns[kind].append(_spread(figures, there, rows))
    # A number that is not finite has no difference from another.
    is_infinite = [np.isinf(figures) for kind in ("cosine", "score") for figures in columns[kind]]
    is_broken |= np.logical_or.reduce([np.zeros(rows, dtype=np.bool_), *is_infinite])
    worst = {kind: _worst(figures, kind, rows) for kind, figures in columns.items()}
    for figures in worst.values():
        figures[is_broken] = np.nan
    return RowAgreement(worst["cosine"], worst["score"], worst["label"], is_broken)


def _compare_column(field: pa.Field, ours: pa.Array, reference: pa.Array) -> Iterator[tuple[str, _Figures]]:
    """Kind and figures of what a column holds, for rows without nulls."""
    if not _is_vector(field.type):
        pairs = zip(ours.to_pylist(), reference.to_pylist(), strict=True)
        found = [_compare_values(field.type, *pair) for pair in pairs]
        yield "label", np.array([_fold(equal, min) for equal, _ in found], np.float64)
        yield "score", np.array([_fold(differences, max) for _, differences in found], np.float64)
        return
    owners, mine = _read_vectors(ours)
    _, theirs = _read_vectors(reference)
    if not np.issubdtype(mine.dtype, np.integer):
        yield "cosine", _measure_cosines(owners, mine, theirs, len(ours))
    elif _QUANTISED in (field.metadata or {}):
        # Rounding puts two nearly equal numbers on two neighbouring steps.
        wide = mine.astype(np.float64)
        settled = np.where(np.abs(wide - theirs) <= 1, theirs, wide)
        yield "cosine", _measure_cosines(owners, settled, theirs, len(ours))
    else:
        same = np.unpackbits(mine.view(np.uint8), axis=1) == np.unpackbits(theirs.view(np.uint8), axis=1)
        yield "label", same.mean(axis=1)


def _is_vector(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind)) or (
        bool(pa.types.is_list(kind)) and _is_vector(kind.value_type)
    )


def _read_vectors(column: pa.Array) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """The row of each vector, and the vectors: [T] and [T, W]; one to a row, or one to a token."""
    owners = np.arange(len(column))
    if pa.types.is_list(column.type):
        owners = np.repeat(owners, pc.list_value_length(column).to_numpy())
        column = column.flatten()
    return owners, column.flatten().to_numpy(zero_copy_only=False).reshape(len(owners), column.type.list_size)


def _measure_cosines(
    owners: NDArray[np.intp], ours: NDArray[Any], reference: NDArray[Any], rows: int
) -> _Figures:
    """2ab / (aa + bb) of each row's numbers: the cosine, and less where the lengths differ; inf for NaN."""
    mine, theirs = ours.astype(np.float64), reference.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        products = np.bincount(owners, (mine * theirs).sum(axis=1), minlength=rows)
        squares = np.bincount(owners, (mine**2 + theirs**2).sum(axis=1), minlength=rows)
        cosines = np.where(squares == 0, 1.0, 2 * products / squares)
    return np.where(np.isfinite(cosines), cosines, np.inf)


def _compare_values(kind: pa.DataType, ours: Any, reference: Any) -> tuple[list[float], list[float]]:
    """Whether labels are equal, and how scores differ: one number for each that was compared."""
    if pa.types.is_floating(kind):
        return [], [_measure_difference(ours, reference)]
    if pa.types.is_struct(kind):
        pairs = [_compare_values(field.type, ours[field.name], reference[field.name]) for field in kind]
    elif not pa.types.is_list(kind):
        return [float(ours == reference)], []
    elif pa.types.is_struct(kind.value_type) and {field.name for field in kind.value_type} >= _PLACES:
        return _compare_entities(ours, reference)
    else:
        is_ranked = not (pa.types.is_list(kind.value_type) or pa.types.is_floating(kind.value_type))
        if len(ours) != len(reference):
            return [0.0], []
        count = 1 if is_ranked else len(ours)
        both = zip(ours[:count], reference[:count], strict=True)
        pairs = [_compare_values(kind.value_type, *pair) for pair in both]
        pairs.append(([1.0], []) if not ours else ([], []))
    return [value for equal, _ in pairs for value in equal], [value for _, gaps in pairs for value in gaps]


def _compare_entities(
    ours: list[Mapping[str, Any]], reference: list[Mapping[str, Any]]
) -> tuple[list[float], list[float]]:
    """Equal where all entities have the same name and place; then also how their scores differ."""
    names = [[{**entity, "score": None} for entity in entities] for entities in (ours, reference)]
    if names[0] != names[1]:
        return [0.0], []
    gaps = [_measure_difference(a["score"], b["score"]) for a, b in zip(ours, reference, strict=True)]
    return [1.0], gaps


def _measure_difference(ours: float, reference: float) -> float:
    """Absolute up to 1, relative beyond, for scores that are logits; inf where one is not finite."""
    difference = abs(ours - reference) / max(1.0, abs(reference))
    return difference if np.isfinite(difference) else float("inf")


def _fold(values: list[float], how: Any) -> float:
    return float(how(values)) if values else float("nan")


def _spread(figures: _Figures, places: NDArray[np.intp], rows: int) -> _Figures:
    spread = np.full(rows, np.nan)
    spread[places] = figures
    return spread


def _worst(columns: list[_Figures], kind: str, rows: int) -> _Figures:
    """The worst of several columns for each row; NaN where none says anything."""
    worst = np.full(rows, np.nan)
    for figures in columns:
        worst = np.fmax(worst, figures) if kind == "score" else np.fmin(worst, figures)
    return worst


def _pick(how: Any, figures: _Figures, digits: int) -> float | None:
    return None if np.isnan(figures).all() else round(float(how(figures)), digits)
