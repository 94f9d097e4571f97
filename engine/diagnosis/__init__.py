"""What the files of a run show, in words and figures, and what to try next.

Reads the log, the manifest, the recipe and the scores of each val image. Needs no model and no GPU.
"""

from dataclasses import asdict, dataclass

from engine.diagnosis.classes import describe_confusions, study_classes, study_confusions
from engine.diagnosis.growth import describe_growth, schedule_ended, study_growth
from engine.diagnosis.places import study_confidence, study_edges, study_sizes
from engine.diagnosis.recommendations import Recommendation, Studies, recommend
from engine.diagnosis.training import study_losses, study_speed, study_start
from engine.scoring.evaluation import ENSEMBLE
from engine.scoring.run import Run

__all__ = ["Recommendation", "RunDiagnosis", "RunFinding", "diagnose", "diagnosis_of", "study"]


@dataclass(frozen=True)
class RunFinding:
    """One result from the files of a run: its heading, and a few sentences."""

    topic: str
    text: str


@dataclass(frozen=True)
class RunDiagnosis:
    """The review of a run: findings by topic, then at most five recommendations."""

    name: str
    findings: list[RunFinding]
    recommendations: list[Recommendation]

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def diagnose(run: Run) -> RunDiagnosis:
    """All findings from the files of a run; figures that are missing there are reported as not counted.

    Raises:
        RunFolderError, RecipeError: the manifest, the recipe or the scores are missing or damaged.
    """
    return diagnosis_of(run, study(run))


def diagnosis_of(run: Run, studies: Studies) -> RunDiagnosis:
    """The findings in words."""
    s = studies
    texts = {
        "weights": str(s.start),
        "mIoU curve": describe_growth(run, s.growth),
        "over-fitting": str(s.losses or "Too few evaluations with a loss to judge."),
    }
    if run.scores and not run.scores.confusion:
        texts["classes"] = (
            "Not studied where classes may overlap (data.labels: multi): classes, confusions, places, "
            "calibration. The report has the scores of each class."
        )
    elif s.classes is None or s.confusions is None:
        texts["classes"] = (
            "Val was not scored image by image (no scores.h5): classes, confusions, places not counted."
        )
    else:
        whose = "the ensemble (the mean of the members)" if run.predictor == ENSEMBLE else run.predictor
        texts |= {
            "counts": f"Classes, confusions, places and calibration, below, are those of {whose}.",
            "classes": str(s.classes),
            "confusions": describe_confusions(s.confusions),
            "places": f"{s.edges or 'Errors near outlines: not counted.'} "
            f"{s.sizes or 'Size of objects: too few objects to judge.'}",
            "calibration": str(s.confidence or "Not counted."),
        }
    texts["speed"] = str(s.speed or "The log has no times.")
    return RunDiagnosis(
        name=run.manifest.name,
        findings=[RunFinding(topic, text) for topic, text in texts.items()],
        recommendations=recommend(studies, run.recipe) if run.recipe else [],
    )


def study(run: Run) -> Studies:
    """The figures behind the findings."""
    return Studies(
        last_step=max((row["step"] for row in (*run.train_rows, *run.val_rows)), default=0),
        start=study_start(run),
        growth=study_growth(run),
        schedule_ended=schedule_ended(run),
        losses=study_losses(run),
        classes=study_classes(run),
        confusions=study_confusions(run),
        edges=study_edges(run),
        sizes=study_sizes(run),
        confidence=study_confidence(run),
        speed=study_speed(run),
    )
