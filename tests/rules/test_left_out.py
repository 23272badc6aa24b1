"""A cargo that cannot build here is named with its own words, and what needs it is left out."""

from pathlib import Path

import pytest

from tests.integration.contract import test_contract_rust
from tests.native import test_lane
from tests.support.cargo import why_no_cargo

_OF_RUSTUP = "rustup could not choose a version of cargo to run"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        # As rustup's does if HOME isn't that of the user who installed it.
        (f"echo error: {_OF_RUSTUP} >&2; exit 1", f"/cargo does not run: error: {_OF_RUSTUP}"),
        ("echo 'cargo 1.63.0 (x)'", "/cargo is too old: cargo 1.63.0 (x); 1.85 or newer is needed"),
        ("echo 'cargo 1.90.0 (x)'", None),
    ],
)
def test_a_cargo_that_cannot_build_says_why(tmp_path: Path, script: str, why: str | None) -> None:
    cargo = tmp_path / "cargo"
    cargo.write_text(f"#!/bin/sh\n{script}\n")
    cargo.chmod(0o755)

    said = why_no_cargo(85, {"PATH": str(tmp_path)})

    assert said == (why and f"{tmp_path}{why}")


def test_without_cargo_the_package_is_named() -> None:
    assert "apt-get install cargo-web" in str(why_no_cargo(85, {"PATH": "/none"}))


def test_every_crate_asks_for_a_cargo_of_its_own_version() -> None:
    for module, workspace in ((test_contract_rust, "contract/rust"), (test_lane, "native")):
        manifest = Path(__file__).parents[2] / workspace / "Cargo.toml"

        assert f'rust-version = "1.{module.OLDEST_MINOR}"' in manifest.read_text()
