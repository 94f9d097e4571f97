"""The run folder: the path of each file of a run, and the manifest that lists what the run holds.

checkpoints/<name>/
    recipe.yaml        the resolved recipe
    log.jsonl          one JSON object per line: step, split, metrics
    manifest.json      members, scores, SHA-256, class names, code version, data fingerprint
    top/*.safetensors  the best checkpoints
    tail/*.safetensors the latest states, with keep.tail, and their averages, with train.ema_widths
    last/              everything for an exact resume: state.safetensors, and the one before
    scores.h5          confusion, boundary and calibration counts of each val image
    doctor.json        what is wrong with the data
    ensemble.json      the members and their ensemble on val
    predictions.png    image, labels, prediction, errors
    report.html, events.out.tfevents.*
"""

from engine.run_folder.files import (
    DiskError,
    LogRow,
    RunFolderError,
    naming_disk_errors,
    parse_json,
    read_damaged_log,
    read_json,
    read_log,
    require_intact,
    save_tensors,
    sha256_of,
    without_nan,
    write_json,
    write_text,
    written_in_place,
)
from engine.run_folder.folder import (
    KEPT,
    SAVED,
    EnsembleFolder,
    RunFolder,
    common_folder,
    find_runs,
    require_trained_alike,
)
from engine.run_folder.last_stage import last_stage, read_stages
from engine.run_folder.lock import is_in_use, locked, require_unused
from engine.run_folder.manifests import (
    Average,
    Changed,
    CombinationValues,
    DataIdentity,
    EnsembleManifest,
    EnsembleMember,
    LatestState,
    Manifest,
    Member,
    Origin,
    Resumption,
    read_manifest,
    read_sealed,
    require_unaltered,
    saved_beside_tensors,
    saved_step,
    write_sealed,
)
from engine.run_folder.nearby import near_runs, no_checkpoint, no_model, similar_run
from engine.run_folder.outputs import new_folder, require_folder, require_new_file, require_reachable
