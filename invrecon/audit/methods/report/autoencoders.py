"""The report's section on autoencoders: a table, and a row of pictures for each photo."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from invrecon.audit.autoencoders.tables import COLUMNS, cells
from invrecon.audit.methods.report.album import embedded
from invrecon.audit.methods.report.markup import Row, number, table_of

LINK = '<a href="#autoencoders">Autoencoders</a>'
_TEXT = (
    "No inversion is made here: boosting descends from the encoder's latents E(x), as if the way down lost "
    "nothing. The decoder's ceiling is found from E(x), too, by more passes and without a proximal term. "
    "Figures are medians over the photos; a distance is that from E(x), in parts of its norm."
)
_PICTURES = {
    "original": ("the photo", ""),
    "autoencoded": ("D(E(x))", "encoder_ceiling_db"),
    "boosted": ("boosted", "boosted_db"),
    "ceiling": ("decoder's ceiling", "decoder_ceiling_db"),
}


def autoencoders(lines: Sequence[Row], rows: Sequence[Row], folder: Path) -> str:
    """The section as HTML; nothing where no autoencoder was measured."""
    if not rows:
        return ""
    steps = max(row["ceiling_steps"] for row in rows)
    body = [[escape(line["autoencoder"]), *(cell or "–" for cell in cells(dict(line)))] for line in lines]
    table = table_of(
        f"PSNR of 8-bit pictures; the ceiling is found in {steps} passes",
        ["Autoencoder", *(title for title, _ in COLUMNS.values())],
        body,
    )
    pictures = "".join(_row(row, folder) for row in rows)
    return (
        f'<section><h2 id="autoencoders">Autoencoders</h2>\n<p>{escape(_TEXT)}</p>\n{table}'
        f"<details open><summary>Pictures</summary>{pictures}</details>\n</section>\n"
    )


def _row(row: Row, folder: Path) -> str:
    figures = ""
    for name, (title, field) in _PICTURES.items():
        note = f", {number(row[field], 2)} dB" if field else ""
        if source := embedded(folder, row[name]):
            caption = escape(title + note)
            figures += (
                f'<figure><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
            )
    title = escape(f"{row['autoencoder']}, {row['photo']}")
    return f'<h3>{title}</h3><div class="row">{figures}</div>'
