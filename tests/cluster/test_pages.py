"""The cluster's YAML and the container file that the pages name: what their readers would say of them."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

import invrecon

ROOM = Path(invrecon.__file__).parent / "cluster"
PROJECT = ROOM.parents[1] / "pyproject.toml"


def test_rays_own_schema_takes_the_cluster_file():
    yaml, jsonschema = pytest.importorskip("yaml"), pytest.importorskip("jsonschema")
    ray = find_spec("ray")
    if ray is None:
        pytest.skip("Ray isn't installed")
    schema = json.loads((Path(ray.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    config = yaml.safe_load((ROOM / "ray-cluster.yaml").read_text())
    jsonschema.validate(config, schema)
    kinds = config["available_node_types"]
    assert config["head_node_type"] in kinds
    assert sum(kind.get("max_workers", 0) for kind in kinds.values()) <= config["max_workers"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config | {"max_worker": 1}, schema)


def test_the_container_file_is_made_of_instructions_and_installs_extras_that_there_are():
    text = re.sub(r"\\\n", " ", (ROOM / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    known = ("FROM", "COPY", "RUN", "ENV", "WORKDIR", "ENTRYPOINT", "CMD", "ARG", "USER", "LABEL", "EXPOSE")
    assert all(line.split(" ", 1)[0] in known and line.split(" ", 1)[1].strip() for line in lines)
    assert re.fullmatch(r"FROM [a-z0-9./-]+:[\w.-]+", lines[0])  # of a version
    copied = [line.split()[-1] for line in lines if line.startswith("COPY")]
    [(place, extras)] = re.findall(r"'(/\w+)\[([\w,]+)\]'", text)
    assert place in copied
    declared = re.findall(r"^(\w+) = \[", PROJECT.read_text(), re.MULTILINE)
    assert set(extras.split(",")) <= set(declared)


def test_the_pages_commands_have_options_that_there_are():
    from typer.testing import CliRunner

    from invrecon.cli.app import app

    told = CliRunner().invoke(app, ["reconstruct", "--help"]).stdout
    for page in ("RAY.md", "SLURM.md", "S3.md", "README.md"):
        for block in re.findall(r"```sh\n(.*?)```", (ROOM / page).read_text(), re.DOTALL):
            for command in re.findall(r"invrecon (?:reconstruct|invert)(?:[^\n]|\\\n)*", block):
                assert set(re.findall(r"--[a-z][\w-]+", command)) <= set(re.findall(r"--[\w-]+", told))
