"""Settings, each described once: checks, options and presets follow from that. Nothing here needs torch."""

from invrecon.settings.auto_guidance import AutoGuidance
from invrecon.settings.boosting import Boosting
from invrecon.settings.checkpoint import Checkpoint
from invrecon.settings.editing import GUIDANCE, INVERSIONS, MODES, EditSettings, read_edit
from invrecon.settings.effort import Effort
from invrecon.settings.framing import Framing
from invrecon.settings.grades import EFFORTS
from invrecon.settings.hardware import Hardware
from invrecon.settings.imagining import Imagining
from invrecon.settings.presets import load_captions, load_settings, load_table
from invrecon.settings.recipe import SAMPLERS, Recipe, Sampling
from invrecon.settings.run import Settings, each
from invrecon.settings.table import Setting, settings_of

__all__ = [
    "EFFORTS",
    "GUIDANCE",
    "INVERSIONS",
    "MODES",
    "SAMPLERS",
    "AutoGuidance",
    "Boosting",
    "Checkpoint",
    "EditSettings",
    "Effort",
    "Framing",
    "Hardware",
    "Imagining",
    "Recipe",
    "Sampling",
    "Setting",
    "Settings",
    "each",
    "load_captions",
    "load_settings",
    "load_table",
    "read_edit",
    "settings_of",
]
