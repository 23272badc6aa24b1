"""A program that is there and does not run is reported with its own words, not as missing."""

from pathlib import Path

from tests.integration.test_contract_rust import why_left_out


def _fake(folder: Path, script: str) -> dict[str, str]:
    cargo = folder / "cargo"
    cargo.write_text(f"#!/bin/sh\n{script}\n")
    cargo.chmod(0o755)
    return {"PATH": str(folder)}


def test_a_cargo_of_another_home_says_what_it_lacks(tmp_path: Path) -> None:
    """As rustup's does where HOME is not that of the user who installed it."""
    sentence = "rustup could not choose a version of cargo to run"
    environ = _fake(tmp_path, f"echo error: {sentence} >&2; exit 1")

    why = why_left_out("cargo", environ)

    assert why == f"{tmp_path}/cargo does not run: error: {sentence}"


def test_an_old_cargo_is_too_old_and_none_is_missing(tmp_path: Path) -> None:
    environ = _fake(tmp_path, "echo 'cargo 1.63.0 (x)'")

    assert "too old: cargo 1.63.0" in str(why_left_out("cargo", environ))
    assert "no cargo: apt-get" in str(why_left_out("cargo", {"PATH": "/none"}))


def test_a_cargo_that_runs_is_used(tmp_path: Path) -> None:
    assert why_left_out("cargo", _fake(tmp_path, "echo 'cargo 1.90.0 (x)'")) is None
