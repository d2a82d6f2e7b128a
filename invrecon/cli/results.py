"""The figures of a reconstruction or an inversion: what JSON holds of them, and what a table shows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from invrecon.cli.output import Output
from invrecon.cli.tables import Columns, cell

if TYPE_CHECKING:
    from invrecon.pipeline import PhotoInversion, Reconstruction
    from invrecon.pipeline.subject import Subject

Row = dict[str, Any]  # what became of one input, by the names of JSON_FIELDS; one that isn't there is None

_QUALITY = (
    "psnr", "psnr_photo", "ssim", "encoder_ceiling_db", "decoder_ceiling_db", "ddim_psnr", "lbo_psnr",
    "ilb_psnr", "latent_fidelity_db", "ddim_latent_fidelity_db",
)  # fmt: skip
_EFFORT = ("effort", "steps", "converged_steps", "evaluations", "evaluations_per_step")
_HEALTH = tuple(
    f"{plain}seed_{name}" for name in ("norm", "autocorrelation", "normality") for plain in ("plain_", "")
)
FILES = ("output", "seed_file", "compare_file")
JSON_FIELDS = (
    "input", *FILES, *_QUALITY, *_EFFORT, *_HEALTH, "seconds", "peak_memory_mb", "seen", "tiling",
    "guidance_scale", "guidance_curve", "resumed", "error",
)  # fmt: skip

_COLUMNS: Columns = {
    "psnr": ("PSNR\ndB", ".2f"),
    "gain": ("over the\nautoencoder", "+.2f"),
    "ddim_psnr": ("plain\nDDIM", ".2f"),
    "shown": ("seen at", "s"),
    "seconds": ("seconds", ".1f"),
}
_MORE_COLUMNS: Columns = {
    "psnr_photo": ("PSNR of\nthe photo", ".2f"),
    "evaluations_per_step": ("evaluations\n/step", ".1f"),
    "ssim": ("SSIM", ".4f"),
    "encoder_ceiling_db": ("encoder\nceiling", ".2f"),
    "decoder_ceiling_db": ("decoder\nceiling", ".2f"),
    "lbo_psnr": ("LBO\nalone", ".2f"),
    "ilb_psnr": ("ILB\nalone", ".2f"),
    "latent_fidelity_db": ("latent\ndB", ".1f"),
}
_SEED_COLUMNS: Columns = {
    "plain_seed_norm": ("seed norm\nplain", ".3f"),
    "seed_norm": ("seed\nnorm", ".3f"),
    "seed_autocorrelation": ("auto-\ncorrelation", ".3f"),
    "seed_normality": ("normality", ".3f"),
}


def inversion_figures(inversion: "PhotoInversion") -> Row:
    """The fields of a row that an inversion fills."""
    search = inversion.guidance
    guidance: Row = {"guidance_curve": search.table(), "verdict": search.verdict} if search else {}
    guidance["guidance_scale"] = inversion.seed.recipe.guidance_scale
    effort = {name: getattr(inversion, name) for name in (*_EFFORT, "seconds", "advice")}
    healths = {"": inversion.health} | ({"plain_": inversion.plain_health} if inversion.plain_health else {})
    return (
        guidance
        | effort
        | {"seen": seen(inversion.subject), "tiling": inversion.seed.header["tiling"]}
        | {
            f"{plain}seed_{name}": value
            for plain, health in healths.items()
            for name, value in vars(health).items()
        }
    )


def seen(subject: "Subject") -> dict[str, Any]:
    """What the model saw of a photo: the size of its canvas, of the photo on it, and of the photo itself,
    pixels.
    """
    canvas = subject.canvas
    left, top, right, bottom = canvas.seen
    return {
        "size": list(canvas.size),
        "photo": [right - left, bottom - top],
        "of": list(canvas.shown(subject.photo.rgb).size),
        "fit": canvas.fit,
    }


def reconstruction_figures(result: "Reconstruction") -> Row:
    """The fields of a row that a reconstruction fills."""
    found = inversion_figures(result.inversion) if result.inversion else {}
    return found | {name: getattr(result, name) for name in (*_QUALITY, "seconds", "tiling", "advice")}


def show_results(output: Output, rows: Sequence[Row]) -> None:
    """A table of the inputs that are done, the curves of searches for guidance, and the files written."""
    done = [row for row in rows if row["error"] is None]
    if not done or not output.for_people:
        return
    told = [row | {"gain": _gain(row), "shown": _shown(row)} for row in done]
    output.figures("file", [row["input"] for row in done], told, [_COLUMNS, _MORE_COLUMNS, _SEED_COLUMNS])
    for row in done:
        if row.get("guidance_curve"):
            _show_curve(output, row)
    for path in dict.fromkeys(path for row in done for path in row["files"]):
        output.line(path)


def _gain(row: Row) -> float | None:
    """PSNR above what the autoencoder alone leaves of the photo, dB."""
    psnr, ceiling = row.get("psnr"), row.get("encoder_ceiling_db")
    return None if psnr is None or ceiling is None else psnr - ceiling


def _shown(row: Row) -> str | None:
    """The size at which the model saw the photo, of the photo's own, pixels."""
    seen = row.get("seen")
    return seen and f"{seen['photo'][0]} x {seen['photo'][1]} of {seen['of'][0]} x {seen['of'][1]}"


def _show_curve(output: Output, row: Row) -> None:
    """What each guidance scale left of a photo."""
    forms = {
        "psnr": ".2f",
        "latent_fidelity_db": ".1f",
        "evaluations_per_step": ".1f",
        "converged_steps": "",
        "seed_norm": ".3f",
        "holds": "",
    }
    titles = ("PSNR\ndB", "latent\ndB", "evaluations\n/step", "converged\nsteps", "seed\nnorm", "holds")
    table = []
    for probe in row["guidance_curve"]:
        counted = f"{probe['converged_steps']} of {row['steps']}"
        told = probe | {"converged_steps": counted, "holds": "yes" if probe["holds"] else "no"}
        table.append(
            (f"{probe['guidance_scale']:g}", *(cell(told[name], form) for name, form in forms.items()))
        )
    output.line()
    output.line(f"{row['input']}: {row['verdict']}")
    output.line()
    output.table(("guidance", *titles), table)
    output.line()
