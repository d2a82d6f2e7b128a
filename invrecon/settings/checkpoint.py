"""Which checkpoint is used."""

from dataclasses import dataclass

from invrecon.settings.table import Group, documented, setting


@documented
@dataclass(frozen=True)
class Checkpoint(Group):
    """Where the networks come from. Only a hub id, or a card that stands for one, is fetched."""

    model: str = setting("mini", "A card's name, a diffusers folder, a .safetensors file, or a hub id.")
    revision: str = setting("", "Branch, tag or commit of a hub id.")
    variant: str = setting("", "Variant of the weights of a hub id or folder, such as fp16.")
    base: str = setting(
        "",
        "Diffusers folder or hub id that a single file takes its configuration and missing parts from.",
    )
    vae: str = setting("", "Folder or .safetensors file of an autoencoder to take in the place of its own.")
