"""`invrecon summary`: what runs with --resume left in a folder, as a table, files and a page."""

import json
from pathlib import Path
from typing import Annotated

import typer

from invrecon.cli.command import command
from invrecon.cli.output import Output
from invrecon.cluster.store import Store
from invrecon.cluster.summary import Summary, page, parquet, quantile, summarize
from invrecon.jsonable import jsonable
from invrecon.writing import replacing

_FIGURES = {
    "psnr": ("PSNR, dB", ".2f"),
    "psnr_photo": ("PSNR of the photo, dB", ".2f"),
    "latent_fidelity_db": ("latent fidelity, dB", ".1f"),
    "evaluations_per_step": ("evaluations a step", ".1f"),
    "seed_norm": ("seed norm", ".3f"),
    "seconds": ("seconds", ".1f"),
}


@command(
    examples=["invrecon summary results", "invrecon summary s3://bucket/results --to report"],
    codes={
        0: "the summary is written",
        1: "it can't be written, or invrecon itself failed",
        2: "wrong usage: there are no notes of runs, or they can't be read",
        130: "interrupted; every file there is complete",
    },
)
def summary(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Folder or address of the results.")],
    to: Annotated[
        str,
        typer.Option("--to", metavar="DIR", help="Folder for the summary; OUT itself if left out."),
    ] = "",
    *,
    output: Output,
) -> int:
    """Sum up runs with --resume, --shard or --engine.

    Writes summary.html, results.jsonl, and results.parquet where pyarrow is installed.
    """
    store = Store(out)
    summed = summarize(store)
    rows = [*summed.done, *summed.failed]
    files = {
        "summary.html": page(summed, store).encode(errors="backslashreplace"),
        "results.jsonl": "".join(json.dumps(jsonable(row), allow_nan=False) + "\n" for row in rows).encode(),
    }
    if table := parquet(rows):
        files["results.parquet"] = table
    target = Store(to or out)
    target.make()
    for name, content in files.items():
        _write(target, name, content)
    _show(summed, output)
    for name in files:
        output.line(target.place(name))
    return 0


def _show(summed: Summary, output: Output) -> None:
    """The table, and failures by cause."""
    output.record(
        {"done": len(summed.done), "failed": len(summed.failed), "causes": dict(summed.causes)}
        | {f"median_{name}": quantile(summed.values(name), 0.5) for name in _FIGURES}
    )
    output.line(f"{len(summed.done)} done, {len(summed.failed)} failed")
    table = []
    for name, (title, form) in _FIGURES.items():
        if values := summed.values(name):
            shown = [quantile(values, part) for part in (0.0, 0.05, 0.5, 0.95)] + [values[-1]]
            table.append((title, *(format(value, form) for value in shown)))
    if table:
        output.table(("", "least", "5 %", "median", "95 %", "most"), table)
    for cause, count in summed.causes:
        output.line(f"{count} failed: {cause}")


def _write(store: Store, name: str, content: bytes) -> None:
    if store.is_remote:
        store.write(name, content)
        return
    with replacing(Path(store.place(name))) as partial:
        partial.write_bytes(content)
