"""A lane that is built while the stack runs is noticed, if a new process can use it."""

import asyncio
from pathlib import Path

import pytest

from normalizer.core.rules_hash import rules_sha256
from normalizer.runtime.native_lane import NATIVE_MODULE_NAME
from normalizer.up.native_build_watch import NativeBuildWatch
from tests.support.waiting import until

_LANE = """
from pathlib import Path
Path(__file__).with_name({name!r}).touch()
RULES_SHA256 = {rules!r}
"""


def _install(folder: Path, name: str, rules: str) -> None:
    unfinished = folder / "unfinished"
    unfinished.write_text(_LANE.format(name=name, rules=rules))
    unfinished.rename(folder / f"{NATIVE_MODULE_NAME}.py")


async def test_lane_of_other_rules_is_passed_over_and_the_next_one_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    _install(tmp_path, "there before", rules_sha256())
    watch = NativeBuildWatch(look_s=0.01)

    async def is_loaded() -> bool:
        return (tmp_path / "of other rules").exists()

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(watch.wait_for_new_lane())
        _install(tmp_path, "of other rules", "0" * 64)
        await until(is_loaded, deadline_s=50)
        _install(tmp_path, "of the same rules", rules_sha256())

    assert (tmp_path / "of the same rules").exists()
    assert not (tmp_path / "there before").exists()
