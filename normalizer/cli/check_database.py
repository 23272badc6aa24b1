"""Checks everything in PostgreSQL that the service needs, for `normalizer check`.

It looks at the connection, the schema's version, rights, clocks, and some server settings, and
changes nothing. Each method yields the lines of one check.
"""

import re
import time
from collections.abc import AsyncIterator, Collection, Sequence
from functools import cache
from typing import Final

import asyncpg

from normalizer.cli.check_result import CheckResult
from normalizer.config.passwords import mask_url_passwords
from normalizer.config.settings import Settings
from normalizer.errors import OtherGroupError
from normalizer.store.claim_checks import find_other_group_errors
from normalizer.store.migrate import (
    APPLIED_BY_HAND_REMEDY,
    USE_OTHER_BUILD_REMEDY,
    USE_PRIMARY_REMEDY,
    read_migration_statuses,
)
from normalizer.store.migration_files import join_migration_names_in_state, read_migrations
from normalizer.store.read_only import read_only_connection

_SKEW_S: Final = 5.0
_ENCODING: Final = (
    "events hold text of any language, so make another database: create database ... encoding "
    "'UTF8' template template0"
)


_OLDEST_POSTGRES: Final = 150_000


_GRANT: Final = re.compile(
    r"^grant ([^;]+?)\s+on (?:(schema|sequence|function) )?([^;]+?)"
    r"\s+to [^;]*\bnormalizer_writer\b[^;]*;",
    re.MULTILINE,
)
_GRANTED_TO: Final = re.compile(r"[\w.]+(?:\([^)]*\))?")
_GRANTED: Final = re.compile(r"(\w+)(?: \(([^)]*)\))?")
_RIGHTS: Final = """
    select   lower(wanted.type) || coalesce(' (' || wanted.field || ')', '') || ' on '
             || case when wanted.kind = 'TABLE' then '' else lower(wanted.kind) || ' ' end
             || wanted.what
    from     unnest($1::text[], $2::text[], $3::text[], $4::text[])
                 as wanted (kind, what, type, field)
    where    not case
                 when wanted.field is not null
                 then has_column_privilege(wanted.what, wanted.field, wanted.type)
                 when wanted.kind = 'SCHEMA' then has_schema_privilege(wanted.what, wanted.type)
                 when wanted.kind = 'SEQUENCE' then has_sequence_privilege(wanted.what, wanted.type)
                 when wanted.kind = 'FUNCTION' then has_function_privilege(wanted.what, wanted.type)
                 else has_table_privilege(wanted.what, wanted.type)
             end
    order by wanted.what, wanted.type, wanted.field
"""
_ROLES: Final = """
    select quote_ident(current_user),
           pg_has_role('normalizer_writer', 'usage'),
           pg_has_role('projector_reader', 'usage')
"""
_TRIGGERS: Final = """
    select quote_ident(current_user), current_setting('session_replication_role'),
           array(
               select   array['normalizer.' || relname, quote_ident(tgname)]
               from     pg_trigger
               join     pg_class on pg_class.oid = tgrelid
               where    relnamespace = 'normalizer'::regnamespace
               and      not tgisinternal
               and      tgenabled not in ('O', 'A')
               order by 1
           )
"""
_MAX_LISTED_RIGHTS: Final = 5
"""The most missing rights to list. A user without the role lacks dozens."""


_GRANTED_TO_PUBLIC: Final = """
    select   distinct proname::text as name
    from     pg_proc
    where    pronamespace = 'pg_catalog'::regnamespace
    and      proname in ('lo_creat', 'lo_create', 'lo_from_bytea', 'pg_logical_emit_message')
    and      has_function_privilege('public', oid, 'execute')
    order by name
"""


class DatabaseCheck:
    """Checks everything in PostgreSQL that the service needs."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.required_database_url
        self.answers = False
        self.migrated = False
        self.readable = False
        self.trouble = (
            f"database {mask_url_passwords(self._url)}",
            "see DATABASE_URL, and the server's log",
        )

    async def check_connection(self) -> AsyncIterator[CheckResult]:
        """Connect, and check that the server is new enough and not a standby."""
        async with read_only_connection(self._url) as connection:
            version = int(await connection.fetchval("show server_version_num"))
            user = await connection.fetchval("select current_user")
            standby = await connection.fetchval("select pg_is_in_recovery()")
            encoding = await connection.fetchval("show server_encoding")
            pooler = ", through a connection pooler" if connection.is_pooled else ""
        about = self.trouble[0]
        if version < _OLDEST_POSTGRES:
            yield CheckResult(about, f"version {version}", "PostgreSQL 15 or newer is needed")
        elif encoding != "UTF8":
            yield CheckResult(about, f"encoding {encoding}", _ENCODING)
        elif standby:
            yield CheckResult(about, "a standby: it is read-only", USE_PRIMARY_REMEDY)
        else:
            self.answers = True
            yield CheckResult(about, f"PostgreSQL {version // 10_000}, as {user}{pooler}")

    async def check_migrations(self) -> AsyncIterator[CheckResult]:
        """Check that all migrations are applied, and none was edited."""
        statuses = await read_migration_statuses(self._url)
        applied, pending, edited, by_hand = (
            join_migration_names_in_state(statuses, state)
            for state in ("applied", "pending", "edited", "by hand")
        )
        self.migrated = not pending
        if pending and not (applied or edited or by_hand):
            yield CheckResult(
                "migrations",
                "this database doesn't have our tables",
                "if DATABASE_URL names the right database, run `normalizer migrate` as its owner",
            )
        elif pending:
            yield CheckResult(
                "migrations",
                f"pending: {pending}",
                "run `normalizer migrate` as the database's owner",
            )
        if edited:
            yield CheckResult(
                "migrations", f"edited after they were applied: {edited}", USE_OTHER_BUILD_REMEDY
            )
        if by_hand:
            yield CheckResult(
                "migrations",
                f"applied by hand, without a checksum: {by_hand}",
                APPLIED_BY_HAND_REMEDY,
            )
        if not (pending or edited or by_hand):
            newer = sum(one.state == "unknown" for one in statuses)
            newer_versions = f", {newer} of a newer version" if newer else ""
            yield CheckResult("migrations", f"{len(statuses) - newer} applied{newer_versions}")

    async def check_triggers(self) -> AsyncIterator[CheckResult]:
        """Check that the triggers that update the projections run for this user."""
        async with read_only_connection(self._url) as connection:
            user, role, disabled = await connection.fetchrow(_TRIGGERS)
        if role == "replica":
            yield CheckResult(
                "triggers",
                "session_replication_role is replica, so no view counts what this login stores",
                f"alter role {user} set session_replication_role = origin; then restart, and run "
                "`projector repair`",
            )
        for table, trigger in disabled:
            yield CheckResult(
                "triggers",
                f"{trigger} of {table} is disabled, so views miss what is stored meanwhile",
                f"alter table {table} enable trigger {trigger}; then run `projector repair`",
            )

    async def check_writer_rights(self) -> AsyncIterator[CheckResult]:
        """Check every right that the migrations grant to a writer."""
        async with read_only_connection(self._url) as connection:
            user, is_writer, is_reader = await connection.fetchrow(_ROLES)
            # Without the right to a schema, the server says nothing about the objects in it.
            missing = await _missing(connection, schemas=True) or await _missing(
                connection, schemas=False
            )
        needed = {"usage on schema normalizer", "select on normalizer.source_positions"}
        self.readable = needed.isdisjoint(missing)
        if missing and is_reader and not is_writer:
            yield CheckResult(
                "rights",
                f"{user} is a login for dashboards, which may only read the views",
                "set DATABASE_URL to the service's login, a member of normalizer_writer. This "
                "login is for `projector serve`",
            )
        elif missing:
            unlisted = len(missing) - _MAX_LISTED_RIGHTS
            more = f" and {unlisted} more" if unlisted > 0 else ""
            remedy = f"as the database's owner: grant normalizer_writer to {user};"
            if is_writer:
                remedy = " ".join(f"grant {right} to normalizer_writer;" for right in missing)
            listed = ", ".join(missing[:_MAX_LISTED_RIGHTS])
            yield CheckResult("rights", f"missing: {listed}{more}", remedy)
        else:
            yield CheckResult("rights", "may write events, positions, quarantine, and projections")

    async def check_monitoring_rights(self) -> AsyncIterator[CheckResult]:
        """Check the right to see how old the snapshots of other roles are."""
        async with read_only_connection(self._url) as connection:
            user = await connection.fetchval("select quote_ident(current_user)")
            sees = await connection.fetchval("select pg_has_role('pg_read_all_stats', 'usage')")
        yield CheckResult(
            "statistics",
            "may see how long other roles hold a snapshot"
            if sees
            else "other roles' snapshots are hidden, so the alert NormalizerSnapshotHeld can't "
            "fire",
            "" if sees else f"grant pg_read_all_stats to {user};",
            # Only the alert NormalizerSnapshotHeld needs the right pg_read_all_stats. Many managed
            # databases let nobody grant it, so a missing right is a warning and not a failure.
            warns=not sees,
        )

    async def check_crash_safety(self) -> AsyncIterator[CheckResult]:
        """Check that PostgreSQL can start again after a crash."""
        async with read_only_connection(self._url) as connection:
            is_on = await connection.fetchval("show full_page_writes") == "on"
        yield CheckResult(
            "full_page_writes",
            "on" if is_on else "off: after a crash the server may not start again",
            "" if is_on else "alter system set full_page_writes = on; select pg_reload_conf();",
            # Only warn, because an operator may have turned full_page_writes off on purpose. Some
            # file systems, such as ZFS, never leave a page half written, so the setting isn't
            # needed there.
            warns=not is_on,
        )

    async def check_public_rights(self) -> AsyncIterator[CheckResult]:
        """Check that no reader can fill the disk, with rights that every user has by default."""
        async with read_only_connection(self._url) as connection:
            granted = [name for (name,) in await connection.fetch(_GRANTED_TO_PUBLIC)]
        yield CheckResult(
            "large objects, WAL",
            f"every login may fill the disk with {', '.join(granted)}"
            if granted
            else "only superusers may make large objects or write messages to the WAL",
            "if no other application in this database needs them, run deploy/postgres/roles.sql "
            "with REVOKE_FROM_PUBLIC=yes as a superuser. Otherwise give a reader's login only to "
            "people you trust"
            if granted
            else "",
            # On managed servers nobody may revoke these rights.
            warns=bool(granted),
        )

    async def check_clock(self) -> AsyncIterator[CheckResult]:
        """Check that the server's clock agrees with this machine's."""
        # Begin the transaction first, so that only the time of the statement is measured.
        async with read_only_connection(self._url) as connection, connection.transaction():
            before_s = time.time()
            theirs_s = float(
                await connection.fetchval("select extract(epoch from clock_timestamp())")
            )
            skew_s = theirs_s - (before_s + time.time()) / 2
        message = f"the database's is {abs(skew_s):.1f} s {'ahead' if skew_s > 0 else 'behind'}"
        remedy = "run an NTP client on both" if abs(skew_s) > _SKEW_S else ""
        yield CheckResult("clock", message, remedy)

    async def find_other_group_errors(
        self, partitions: Collection[tuple[str, int]], group_id: str
    ) -> list[OtherGroupError]:
        """Return the partitions that another consumer group reads into this database."""
        async with read_only_connection(self._url) as connection:
            return await find_other_group_errors(connection, partitions, group_id)

    async def fetch_for_topics(self, statement: str, topics: Sequence[str]) -> list[asyncpg.Record]:
        """Return the rows of a statement about these topics."""
        async with read_only_connection(self._url) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(statement, list(topics))
        return rows


@cache
def _granted() -> tuple[tuple[str, str, str, str | None], ...]:
    """List the rights that the migrations grant to the writer, as (kind, object, right, column).

    They're read from the text of the migrations, because the database's catalog only shows the
    rights that exist. The check has to notice the ones that are missing, for example after a
    restore.
    """
    return tuple(
        ((kind or "table").upper(), what, right.upper(), field)
        for file in read_migrations()
        for rights, kind, names in _GRANT.findall(file.text)
        for what in _GRANTED_TO.findall(names)
        for right, fields in _GRANTED.findall(rights)
        for field in (fields.split(", ") if fields else [None])
    )


async def _missing(connection: asyncpg.Connection, *, schemas: bool) -> list[str]:
    """List the writer's rights that this user lacks, to schemas or to objects in them."""
    wanted = [one for one in _granted() if (one[0] == "SCHEMA") is schemas]
    rows = await connection.fetch(_RIGHTS, *map(list, zip(*wanted, strict=True)))
    return [right for (right,) in rows]
