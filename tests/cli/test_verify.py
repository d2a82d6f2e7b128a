"""`invrecon verify`."""

from tests.cli.fakes import rows, run


def test_verify_prints_where_the_loss_comes_from(fake):
    result = run("verify", "x.seed.safetensors", "x.png", "--matrix")
    assert result.exit_code == 0, result.output
    assert "PSNR 30.00 dB" in result.stdout
    assert "+2.00" in result.stdout  # boosting, 27 to 29
    assert "Euler" in result.stdout


def test_verify_exits_with_3_below_the_threshold_and_prints_strict_json(fake):
    result = run("verify", "x.seed.safetensors", "x.png", "--matrix", "--json", "--min-psnr", "31")
    assert result.exit_code == 3
    assert "falls short of --min-psnr 31" in result.stderr
    row = rows(result)[0]
    assert row["losses"]["boosting"] == 29
    assert row["matrix"][1]["psnr"] is None
    assert run("verify", "x.seed.safetensors", "x.png", "--min-psnr", "29").exit_code == 0


def test_a_checkpoint_is_found_by_the_options_of_other_commands(fake):
    where = ["--model", "full.safetensors", "--base", "base", "--variant", "fp16", "--revision", "main"]
    assert run("verify", "x.seed.safetensors", "x.png", *where).exit_code == 0
    assert fake.loaded == [("full.safetensors", "auto", "float32")]
    assert {name: fake.places[name] for name in ("base", "variant", "revision")} == {
        "base": "base",
        "variant": "fp16",
        "revision": "main",
    }
