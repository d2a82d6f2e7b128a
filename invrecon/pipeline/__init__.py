"""Path in, pictures and seed out: the order of work behind every command."""

from invrecon.pipeline.editing import Edited, Editing, edit
from invrecon.pipeline.guidance import GuidanceSearch, find_guidance
from invrecon.pipeline.imagination import Imagined, Reference, find_reference, imagine, interpolate
from invrecon.pipeline.inversion import Inversion, OnProgress, invert
from invrecon.pipeline.reconstruction import Reconstruction, boost, reconstruct
from invrecon.pipeline.verification import Verification, verify

__all__ = [
    "Edited",
    "Editing",
    "GuidanceSearch",
    "Imagined",
    "Inversion",
    "OnProgress",
    "Reconstruction",
    "Reference",
    "Verification",
    "boost",
    "edit",
    "find_guidance",
    "find_reference",
    "imagine",
    "interpolate",
    "invert",
    "reconstruct",
    "verify",
]
