"""The audit's page and its Markdown: complete, and harmless whatever the data are called."""

import html
import json
import re
import shutil

import pytest
from PIL import Image

from invrecon.audit.autoencoders import tabulate
from invrecon.audit.methods.markdown import to_markdown
from invrecon.audit.methods.report import write_report
from invrecon.errors import InvreconError
from tests.audit.reports import (
    EVIL,
    FIDELITY,
    METHODS,
    PHOTOS,
    SETTINGS,
    autoencoder_row,
    hollow,
    save,
    written,
)


def test_page_loads_nothing(audit):
    text, page = written(audit)
    links = [
        value
        for _, attributes in page.tags
        for key, value in attributes.items()
        if key in ("src", "href", "srcset", "data", "action")
    ]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not {"link", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttp", text)
    assert "default-src 'none'" in text


def test_names_are_harmless(audit):
    text, page = written(audit)
    assert EVIL not in text
    assert html.escape(EVIL) in text
    assert text.count("<script") == text.count("</script>") == 2
    assert not re.search("<img src=x>|<below>|<b>toy|λ < 1", text)
    data = json.loads(page.scripts[0])
    assert [photo["photo"] for photo in data["photos"]] == list(PHOTOS)
    assert data["runs"][0]["prompt"] == "a </script> prompt"


def test_data_that_look_like_a_place_stay_as_they_are(audit):
    audit[0]["command"] = "<!-- data -->"
    text, _ = written(audit)
    assert "&lt;!-- data --&gt;" in text
    assert "<!-- " not in text


def test_verdict_comes_first_and_is_in_words(audit):
    text, _ = written(audit)
    claims = text[text.index('id="verdict"') : text.index('id="results"')]
    assert "1 of 2" in claims
    assert (
        claims.index("✓ Holds")
        < claims.index("LBO &lt; others")
        < claims.index("✗ Does not hold")
        < claims.index("LBO is best")
    )
    assert text.index('id="verdict"') < text.index("<table")


def test_each_table_holds_one_track_only_best_first(audit):
    _, page = written(audit)
    names = [[row[0].rstrip("†") for row in rows[1:]] for rows in page.tables]
    by_method = [column for column in names if set(column) & set(METHODS)]
    assert all(len({METHODS[name]["track"] for name in column}) == 1 for column in by_method)
    assert by_method[:3] == [
        ["LBO", "GNRI"],
        ["EDICT"],
        ["LBO", "GNRI"],
    ]  # settings in A, in B, and A from boosted latents
    assert len(by_method) == 2 * 3 + 2 * 2 + 2  # published, equal budgets, health
    assert "−3.1 [−4.0, −2.0]" in page.tables[0][2][5]
    assert not any("LBO" in cell for row in page.tables[1] for cell in row)


def test_autoencoders_have_a_table_and_pictures_beside_the_runs(audit):
    summary, rows, folder = audit
    latents = autoencoder_row(folder)
    summary["autoencoders"] = tabulate([latents])
    text, page = written((summary, [*rows, latents], folder))
    assert text.index('id="losses"') < text.index('id="autoencoders"') < text.index('id="health"')
    assert 'href="#autoencoders"' in text
    [line] = [rows[1] for rows in page.tables if rows[0][0] == "Autoencoder"]
    assert line == [EVIL, "25.50", "29.25", "30.00", "83", "83", "60", "0.12", "25.0", "50.0"]
    section = text[text.index('id="autoencoders"') : text.index('id="health"')]
    assert section.count("data:image/webp") == 4
    assert EVIL not in section
    assert "29.25 dB" in section
    assert "| 29.25 |" in to_markdown(summary)


def test_best_is_bold_only_where_there_is_a_difference(audit):
    text, _ = written(audit)
    assert "<td><b>70.2</b></td>" in text
    assert "<b>40.5</b>" not in text
    assert "<b>26.10</b>" not in text


def test_equal_budgets_stand_side_by_side(audit):
    _, page = written(audit)
    head, *body = next(rows for rows in page.tables if "2 evaluations" in rows[0])
    assert head == ["Method", "2 evaluations", "5 evaluations"]
    assert body[0][1].startswith("70.2worst – · PSNR 26.1 · used 2.00")


def test_open_details_have_a_dagger_and_their_note(audit):
    text, page = written(audit)
    marked = {row[0] for rows in page.tables for row in rows if row[0].rstrip("†") in METHODS}
    assert marked == {"LBO", "GNRI†", "EDICT"}
    assert "our reading: λ &lt; 1" in text[text.index('id="notes"') :]


def test_origin_is_told(audit):
    text, _ = written(audit)
    origin = text[text.index('id="origin"') :]
    assert "invrecon audit &#x27;&lt;img src=x&gt;&#x27;" in origin
    assert all(word in origin for word in ("feed" * 16, "0.1.0", "2.13.0", "mini"))


def test_pictures_are_embedded_with_maps_for_published_settings_only(audit):
    _, page = written(audit)
    data = json.loads(page.scripts[0])
    assert len(data["runs"]) == 2 * 2 * 4
    assert all(
        run[key].startswith("data:image/webp;base64,") for run in data["runs"] for key in ("picture", "map")
    )


def test_without_published_settings_pictures_are_of_the_largest_budget(audit):
    summary, rows, folder = audit
    summary["tables"] = [table for table in summary["tables"] if table["budget"]]
    rows = [row for row in rows if row["kind"] != "run" or row["budget"]]
    for number, row in enumerate(row for row in rows if row["kind"] == "run"):
        row["picture"] = save(folder, f"pictures/{number}.png", number)
    text, page = written((summary, rows, folder))
    assert text.count("No method was run at its published settings.") == 2
    data = json.loads(page.scripts[0])
    assert {run["budget"] for run in data["runs"]} == {5}
    assert {run["setting"] for run in data["runs"]} == {f"{setting}, budget 5" for setting in SETTINGS}
    assert all(run["picture"].startswith("data:image/webp;base64,") for run in data["runs"])


@pytest.mark.parametrize("damage", ["gone", "no picture", "other size", "outside", None])
def test_missing_pictures_are_left_out(audit, damage):
    _, rows, folder = audit
    name = "pictures/0.LBO.png"
    if damage == "gone":
        (folder / name).unlink()
    elif damage == "no picture":
        (folder / name).write_text("not a picture")
    elif damage == "other size":
        Image.new("RGB", (9, 9)).save(folder / name)
    else:
        shutil.copy(folder / name, folder.parent / "outside.png")
        for row in rows:
            if row.get("picture") == name:
                row["picture"] = "../outside.png" if damage else None
    _, page = written(audit)
    run = next(
        run
        for run in json.loads(page.scripts[0])["runs"]
        if run["photo"] == "fig.png" and run["method"] == "LBO"
    )
    assert (run["picture"] is None) == (damage != "other size")
    assert run["map"] is None


def test_nulls_become_dashes(audit):
    text, page = written(hollow(audit))
    assert page.tables[0][1][1:3] == ["–", "–"]
    assert "nan" not in re.sub('base64,[^"]*', "", text[: text.index("<script>")]).lower()
    assert "its &lt;output&gt; isn&#x27;t finite" in text


def test_an_audit_without_runs_has_a_page(audit):
    summary, _, folder = audit
    summary.update(verdict=[], losses=[], tables=[], remarks=[], methods={})
    assert "None." in write_report(summary, [], folder).read_text("utf-8")


def test_page_is_there_whole_or_not_at_all(audit):
    summary, rows, folder = audit
    (folder / "report.html").mkdir()
    with pytest.raises(InvreconError, match=r"report\.html: can't be written"):
        write_report(summary, rows, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["pictures", "report.html"]


def test_markdown_has_a_table_for_each_setting(audit):
    summary = audit[0]
    summary["tables"][1]["rows"][0]["evaluations_per_step"] = 2.5  # more than its budget of 2
    text = to_markdown(summary)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    tables = [rows[i : i + 2 + len(METHODS)] for i in range(0, len(rows), 2 + len(METHODS))]
    assert [table[0][5:7] for table in tables] == [["at 2", "at 5"]] * len(SETTINGS)
    first = tables[0][2]
    assert first[:2] == ["LBO", "A"]
    assert first[5:7] == ["", f"{FIDELITY['LBO']:.1f}"]
    assert [row[8] for row in tables[0][2:]] == [
        "26.10" if METHODS[row[0]]["track"] == "A" else "" for row in tables[0][2:]
    ]
    assert "- **Does not hold**: LBO is best." in text
    assert "<below>" not in text
