"""What was found out about one program in one shape."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["red", "yellow"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a compiler will refuse, or compute otherwise: red; or worth knowing: yellow."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line of the table."""

    way: str
    """xla; or export or compile, of the native stack"""
    program: str
    shape: str
    precision: str
    size: int
    """HLO instructions; nodes of the exported graph; graphs that were compiled."""
    error: float
    """Largest difference to eager mode, as a share of the largest number."""
    findings: tuple[Finding, ...]

    @property
    def colour(self) -> str:
        """green, yellow or red, by the worst finding."""
        levels = {finding.level for finding in self.findings}
        return next((level for level in ("red", "yellow") if level in levels), "green")

    def as_json(self) -> dict[str, object]:
        """Everything, for `--json`."""
        return {**asdict(self), "colour": self.colour}

    def as_line(self) -> str:
        """A line of the table."""
        told = "; ".join(finding.text for finding in self.findings)
        return (
            f"{self.colour:6}  {self.way:7}  {self.program:49}  {self.shape:9}  {self.precision:8}  "
            f"{self.size:6}  {self.error:8.1e}  {told}"
        )


HEADER = (
    f"{'':6}  {'way':7}  {'program':49}  {'shape':9}  {'type':8}  {'size':>6}  {'error':>8}  what is wrong"
)
