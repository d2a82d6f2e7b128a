"""What boosting wins in an autoencoder's latent space, beside the best that its decoder can give."""

from invrecon.audit.autoencoders.measurement import run_autoencoders
from invrecon.audit.autoencoders.tables import tabulate, to_markdown

__all__ = ["run_autoencoders", "tabulate", "to_markdown"]
