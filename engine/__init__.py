"""Trident: the commands, one file each, and what they stand on. Imports nothing at once: `--help` is fast."""

__version__ = "0.1.0"


def load(path, device=None, overrides=()):
    """What has been trained, ready to use: `labels, probabilities = engine.load(path).predict(image)`.

    Args:
        path: a run folder, whose best checkpoint is taken, a file of its top/, or a saved ensemble's folder.
        device: such as "cpu"; None takes the GPU if there is one.
        overrides: recipe values that say how it sees an image, such as ["eval.flip=true"].

    Returns:
        An `engine.scoring.segmenter.Segmenter`: `predict`, `class_names`, `palette`.

    Raises:
        ValueError: there is nothing of that kind at `path`, or it is damaged, or it was scored under a
            protocol that leaves a part of an image out (`overrides` change it).
    """
    from engine.scoring.segmenter import open_segmenter  # here, since torch takes seconds to import

    return open_segmenter(path, device, overrides)
