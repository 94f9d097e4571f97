"""What a run's own files say about it, in words and figures, and what to try next.

Reads the log, the manifest, the recipe and the per-image scores of a run folder. Needs no model and no device.
"""

from engine.diagnosis.findings import Diagnosis, Finding, Recommendation

__all__ = ["Diagnosis", "Finding", "Recommendation"]
