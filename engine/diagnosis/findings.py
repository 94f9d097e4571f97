"""What a diagnosis is made of. Knows nothing of how anything is found."""

from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Finding:
    """One thing that a run's own files show: the heading it stands under, and a few sentences."""

    topic: str
    text: str


@dataclass(frozen=True)
class Recommendation:
    """What to try next.

    Args:
        title: one sentence, in the imperative.
        recipe_lines: `key.path=value` each, which `trident run` takes behind the run's own recipe.
        evidence: the figures that speak for it.
    """

    title: str
    recipe_lines: list[str]
    evidence: str


@dataclass(frozen=True)
class Diagnosis:
    """What a good reviewer would say of a run: findings by topic, then at most five recommendations."""

    name: str
    findings: list[Finding] = field(default_factory=list)
    recommendations: list[Recommendation] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """As JSON can hold it."""
        return asdict(self)
