"""The seed under another prompt, and nothing else."""

from invrecon.core.editing.branches import Mode


def swap() -> Mode:
    """The target starts from the seed and is left alone."""
    return Mode()
