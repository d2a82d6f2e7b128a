"""SDEdit (arXiv:2108.01073): partial noising, then the new prompt."""

from invrecon.core.editing.branches import Mode


def sdedit(strength: float) -> Mode:
    """The target starts from the photo noised as far as the last `strength` of the steps, in [0, 1], undo.

    The published method draws fresh noise. Here the noise is the seed's own: the noised photo is z_t of the
    source trajectory, so that nothing changes where the prompt doesn't; 0 gives the reconstruction, 1 is
    `swap`.
    """
    return Mode(start=1 - strength)
