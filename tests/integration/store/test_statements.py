"""Every SQL statement that a module names is one that the migrated database can prepare."""

import importlib
import pkgutil
import re
from collections.abc import Iterator

import asyncpg
import pytest

import normalizer
import projector
from tests.support.stack import Database
from tests.support.table_rows import connected

FRAGMENTS = {"_PAGE", "_FOUND", "_ACTUAL"}
"""Steps of a `with`, which only a whole statement can have."""
STATEMENT = re.compile(r"\s*(select|with|insert into|update|delete from)\s", re.IGNORECASE)


def statements() -> Iterator[tuple[str, str]]:
    """Module, name, and text of every complete statement, without templates."""
    for package in (normalizer, projector):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name.endswith("__main__"):
                continue
            module = importlib.import_module(found.name)
            for name, text in vars(module).items():
                if name in FRAGMENTS:
                    continue
                if isinstance(text, str) and STATEMENT.match(text) and "{" not in text:
                    yield f"{found.name}.{name}", text


@pytest.mark.every_postgres
async def test_every_statement_can_be_prepared(database: Database) -> None:
    rejected = {}
    seen = 0
    async with connected(database) as connection:
        await connection.execute("set search_path to projector, normalizer, public")
        for name, text in statements():
            seen += 1
            try:
                await connection.prepare(text)
            except asyncpg.PostgresError as error:
                rejected[name] = str(error)

    assert seen > 150
    assert "\n".join(f"{name}: {why}" for name, why in rejected.items()) == ""
