"""Help, version and early failures: quick, since nothing heavy is imported for them."""

import os
import re
import subprocess
import sys

import pytest

from invrecon.cli.app import app

HEAVY = ("torch", "diffusers", "transformers", "numpy", "PIL", "rich")
PROBE = f"""
import sys
from invrecon.cli.app import main
try:
    main()
finally:
    print("HEAVY", *[name for name in {HEAVY} if name in sys.modules])
"""
NAMES = (
    "invert",
    "reconstruct",
    "boost",
    "edit",
    "imagine",
    "verify",
    "show",
    "export",
    "import",
    "audit",
    "audit-edit",
    "speed",
    "ui",
)
WORKING = ([], *([name] for name in NAMES), ["summary"], ["models", "path"])
COMMANDS = (*WORKING, ["models"], ["models", "list"], ["models", "show"], ["models", "check"])


def run(*arguments: str, program: tuple[str, ...] = ("-m", "invrecon")) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *program, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_imports_nothing_heavy(command):
    done = run(*command, "--help", program=("-c", PROBE))
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: invrecon")
    assert done.stdout.splitlines()[-1] == "HEAVY"


def test_a_missing_input_is_told_before_anything_heavy_is_imported(tmp_path):
    done = run(
        "reconstruct", str(tmp_path / "nosuch.png"), "--out", str(tmp_path), "--quiet", program=("-c", PROBE)
    )
    assert done.returncode == 1
    assert "No such file" in done.stderr
    assert done.stdout.split() == ["HEAVY"]


@pytest.mark.parametrize("command", [[], ["reconstruct"]], ids=" ".join)
def test_help_answers_in_half_a_second(command):
    """Of the processor's time, whatever else the machine does."""

    def seconds() -> float:
        begun = os.times()
        assert run(*command, "--help").returncode == 0
        ended = os.times()
        return ended.children_user + ended.children_system - begun.children_user - begun.children_system

    assert any(seconds() < 0.5 for _ in range(5))


@pytest.mark.parametrize("command", WORKING, ids=" ".join)
def test_help_shows_examples_and_exit_codes(command):
    lines = [line.strip() for line in run(*command, "--help").stdout.splitlines()]
    example = lines.index(next(line for line in lines if line.startswith("Example"))) + 1
    assert lines[example].startswith(("invrecon " + " ".join(command)).strip())
    expected = {"0", "1", "2", "3", "130"}
    if command and command[0] in ("invert", "reconstruct", "boost"):
        expected.add("4")
    if command == ["ui"]:
        expected.add("143")
    codes = {line.split()[0] for line in lines[lines.index("Exit codes:") + 1 :] if line}
    without = {
        "models": {"1", "3", "130"},
        "audit": {"3"},
        "audit-edit": {"3"},
        "imagine": {"3"},
        "show": {"3"},
        "export": {"3"},
        "import": {"3"},
        "speed": {"3"},
        "summary": {"3"},
        "ui": {"0", "3"},
    }
    assert codes == expected - without.get(command[0] if command else "", set())


@pytest.mark.parametrize("columns", ["80", "120"])
def test_help_lists_common_options_first_and_the_rest_under_the_headings_of_the_settings(
    monkeypatch, columns
):
    from invrecon.settings import Settings, settings_of

    monkeypatch.setenv("COLUMNS", columns)
    listed, heading = {}, ""
    lines = run("reconstruct", "--help").stdout.splitlines()
    for line in lines:
        if line and not line.startswith(" "):
            heading = line.removesuffix(":")
        elif match := re.match(r"  (?:-\w, )?(--[\w-]+)", line):
            listed.setdefault(heading, []).append(match[1])
    headings = list(listed)
    assert (headings[0], *headings[-2:]) == ("Options", "Output", "Other")
    assert len(listed["Options"]) == 10
    for one in settings_of(Settings).values():
        for flag in one.flags:
            assert flag.partition("/")[0] in listed["Options" if one.common else one.section], flag
    assert all(len(line) <= int(columns) for line in lines[: lines.index("  Examples:")])


@pytest.mark.parametrize("command", WORKING[1:], ids=" ".join)
def test_help_lists_every_option_once_and_says_what_it_does(command):
    import typer

    found = typer.main.get_command(app)
    for name in command:
        found = found.commands[name]
    context = typer.Context(found, info_name=command[0])
    text = found.get_help(context)
    for each in found.get_params(context):
        record = each.get_help_record(context)
        assert record
        name = re.escape(record[0].partition(" <")[0])
        assert len(re.findall(rf"^  {name}(?=  |$)", text, re.MULTILINE)) == 1, record[0]
        assert len(record[1].partition("  [")[0].split()) > 1, record[0]


@pytest.mark.parametrize("command", [[], ["models"]], ids=" ".join)
def test_the_list_of_commands_has_whole_sentences(command):
    text = run(*command, "--help").stdout
    listed = text.partition("Commands:\n")[2].partition("\n\n")[0]
    assert "..." not in listed
    assert len(re.findall(r"^  \w", listed, re.MULTILINE)) == (len(NAMES) + 2 if not command else 4)


def test_help_names_the_real_defaults():
    from invrecon.settings import Settings

    text = " ".join(run("invert", "--help").stdout.split())
    for value in (Settings.num_inference_steps, Settings.rtol, Settings.size, Settings.max_evaluations):
        assert f"[default: {value}]" in text


def test_version():
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("invrecon")
    assert done.stderr == ""
