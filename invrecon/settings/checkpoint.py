"""Which checkpoint is used."""

from dataclasses import dataclass

from invrecon.settings.table import Group, documented, setting


@documented
@dataclass(frozen=True)
class Checkpoint(Group):
    """Where the networks come from. Only a hub id, or a card that stands for one, is fetched."""

    title = "Model"

    model: str = setting(
        "mini",
        "A name of `invrecon models list`, a diffusers folder, a .safetensors file, or a hub id.",
        common=True,
    )
    revision: str = setting(
        "", "Branch, tag or commit of a hub id. Name a commit to get the same weights later."
    )
    variant: str = setting(
        "", "Variant of the weights of a hub id or folder. fp16, where there is one, is half the download."
    )
    base: str = setting(
        "",
        "Diffusers folder or hub id that a single file takes its configuration and missing parts from. "
        "Give it where a file isn't enough by itself.",
    )
    vae: str = setting(
        "", "Folder or .safetensors file of an autoencoder to use in place of the model's own."
    )
