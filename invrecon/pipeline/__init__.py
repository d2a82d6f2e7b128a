"""Path in, pictures and seed out: the order of work behind every command."""

from invrecon.core.sampler import OnProgress
from invrecon.pipeline.batching import batch_size, memory_line
from invrecon.pipeline.editing import Edited, Editing, edit
from invrecon.pipeline.guidance import GuidanceSearch, find_guidance
from invrecon.pipeline.imagination import Imagined, imagine, interpolate
from invrecon.pipeline.inversion import PhotoInversion, invert, invert_batch
from invrecon.pipeline.reconstruction import Reconstruction, boost, reconstruct, reconstruct_batch
from invrecon.pipeline.references import Reference, find_reference, of_common_size
from invrecon.pipeline.verification import Verification, verify

__all__ = [
    "Edited",
    "Editing",
    "GuidanceSearch",
    "Imagined",
    "OnProgress",
    "PhotoInversion",
    "Reconstruction",
    "Reference",
    "Verification",
    "batch_size",
    "boost",
    "edit",
    "find_guidance",
    "find_reference",
    "imagine",
    "interpolate",
    "invert",
    "invert_batch",
    "memory_line",
    "of_common_size",
    "reconstruct",
    "reconstruct_batch",
    "verify",
]
