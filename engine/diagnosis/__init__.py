"""What a run's own files say about it, in words and figures, and what to try next.

Reads the log, the manifest, the recipe and the scores of each val image. Needs no model and no device.
"""

from engine.diagnosis.calibration import TOPIC as CALIBRATION
from engine.diagnosis.calibration import study_calibration
from engine.diagnosis.classes import TOPIC as CLASSES
from engine.diagnosis.classes import study_classes
from engine.diagnosis.confusions import confusions_finding, study_confusions
from engine.diagnosis.findings import Diagnosis, Finding, Recommendation
from engine.diagnosis.growth import growth_finding, study_growth
from engine.diagnosis.overfitting import TOPIC as OVERFITTING
from engine.diagnosis.overfitting import study_losses
from engine.diagnosis.places import places_finding, study_edges, study_sizes
from engine.diagnosis.recommendations import Studies, recommend
from engine.diagnosis.speed import TOPIC as SPEED
from engine.diagnosis.speed import study_speed
from engine.diagnosis.start import study_start
from engine.scoring.evaluation import ENSEMBLE
from engine.scoring.run import Run

__all__ = ["Diagnosis", "Finding", "Recommendation", "diagnose", "diagnosis_of", "study"]

NOT_COUNTED = Finding(
    CLASSES, "Val was not scored image by image (no scores.h5): classes, confusions, places not counted."
)


def diagnose(run: Run) -> Diagnosis:
    """Everything that the files of a run say; what they do not hold is named as not counted.

    Raises:
        RunFolderError, RecipeError: the manifest, the recipe or the scores are missing or damaged.
    """
    return diagnosis_of(run, study(run))


def diagnosis_of(run: Run, studies: Studies) -> Diagnosis:
    """The figures in words."""
    s = studies
    findings = [
        s.start.finding(),
        growth_finding(run, s.growth),
        s.losses.finding() if s.losses else Finding(OVERFITTING, "Too few evaluations with a loss to say."),
    ]
    if s.classes is None or s.confusions is None:
        findings.append(NOT_COUNTED)
    else:
        whose = "the ensemble, the mean of the members" if run.predictor == ENSEMBLE else run.predictor
        findings.append(Finding("counts", f"Those of classes, confusions, places and calibration: {whose}."))
        findings += [s.classes.finding(), confusions_finding(s.confusions), places_finding(s.edges, s.sizes)]
        findings.append(s.calibration.finding() if s.calibration else Finding(CALIBRATION, "Not counted."))
    findings.append(s.speed.finding() if s.speed else Finding(SPEED, "The log has no times."))
    recommendations = recommend(studies, run.recipe) if run.recipe else []
    return Diagnosis(run.manifest.name, findings, recommendations)


def study(run: Run) -> Studies:
    """The figures behind the words."""
    return Studies(
        last_step=max((row["step"] for row in (*run.train_rows, *run.val_rows)), default=0),
        start=study_start(run),
        growth=study_growth(run),
        losses=study_losses(run),
        classes=study_classes(run),
        confusions=study_confusions(run),
        edges=study_edges(run),
        sizes=study_sizes(run),
        calibration=study_calibration(run),
        speed=study_speed(run),
    )
