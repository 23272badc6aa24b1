"""Builds one script for psql from all migrations.

The script is for a DBA who doesn't want to run our programs. It applies only the files that the
database lacks, each in a transaction, and stores their checksums.
"""

from pathlib import Path
from typing import Final

from normalizer.store.migration_files import (
    MIGRATIONS_FOLDER,
    PROGRAM_RELEASE,
    Migration,
    read_migrations,
)

MIGRATION_LOCK_KEY: Final = 5_203_947_410_801
MIGRATION_LOCK_TIMEOUT_S: Final = 5

_REPLACE_VIEW: Final = """\
do $migrate$
declare
    views text;
begin
    execute $view${text}$view$;
exception
    -- PostgreSQL can't replace a view if one of its columns was removed, moved, renamed, or given
    -- another type. So drop the view, along with those of our views that select from it. They
    -- become pending, and are created again after this one.
    when invalid_table_definition then
        with recursive dependent (oid, depth) as (
            select to_regclass('{view}')::oid, 0
            union
            select rewrite.ev_class, depth + 1
            from   dependent
            join   pg_depend on refclassid = 'pg_class'::regclass and refobjid = dependent.oid
                            and classid = 'pg_rewrite'::regclass
            join   pg_rewrite as rewrite on rewrite.oid = objid
            where  rewrite.ev_class <> dependent.oid
        ),
        ours as (
            select   relation.oid, version, max(depth) as depth
            from     dependent
            join     pg_class as relation using (oid)
            join     migrations.applied on version = 'views/' || relname
            where    relnamespace = '{schema}'::regnamespace
            group by relation.oid, version
        ),
        forgotten as (
            delete from migrations.applied using ours where applied.version = ours.version
        )
        -- Drop the views in the order in which a query locks them, because another order could lead
        -- to a deadlock with a query.
        select string_agg(oid::regclass::text, ', ' order by depth desc) into views from ours;
        if views is null then
            raise;
        end if;
        begin
            execute 'drop view ' || views;
        exception
            when dependent_objects_still_exist then
                get stacked diagnostics views = pg_exception_detail;
                raise dependent_objects_still_exist using
                    message = 'other objects depend on view {view}, which has to be dropped',
                    detail = views,
                    hint = 'Drop them, run this again, and create them for the new view.';
        end;
        execute $view${text}$view$;
end
$migrate$;
"""
_RECORD: Final = """\
insert into migrations.applied as known (version, name, checksum, release)
values ('{version}', '{name}', '{checksum}', '{release}')
on conflict (version) do update
set    name       = excluded.name,
       checksum   = excluded.checksum,
       release    = excluded.release,
       applied_at = excluded.applied_at,
       applied_by = excluded.applied_by;
"""
_HEAD: Final = """\
-- Run this script with psql, as the role that will own the tables. It applies the migrations that
-- this database lacks. It also stores the checksum of each file, so that `normalizer migrate`
-- recognizes them. If the script ends because another session holds a lock, run it again.
\\set ON_ERROR_STOP on
do $$ begin perform pg_advisory_lock({lock_key}); end $$;
select to_regclass('migrations.applied') is null as is_pending \\gset
{first}do $$
begin
    if exists (
        select
        from   migrations.applied as applied
        join   (values {checksums}) as file (version, checksum) using (version)
        where  applied.checksum is distinct from file.checksum
    ) then
        raise exception 'another build migrated this database: run that build';
    end if;
end
$$;
"""
_LOOK_UP: Final = """\
select not exists (
    select
    from   migrations.applied
    where  version = '{version}'
    and    (
               checksum = '{checksum}'
               or string_to_array(release, '.')::integer[]
                  > string_to_array('{release}', '.')::integer[]
           )
) as is_pending \\gset
"""
_APPLY: Final = """\
\\if :is_pending
\\echo applying {name}
begin;
set local lock_timeout = '{lock_wait_s}s';
{statements}
{record}commit;
\\endif
"""


def sql_to_apply(file: Migration) -> str:
    """Return the SQL that applies the file."""
    view = file.created_view
    if view is None:
        return file.text
    return _REPLACE_VIEW.format(text=file.text, view=view, schema=view.partition(".")[0])


def statement_to_record_as_applied(file: Migration) -> str:
    """Return the statement that records the file as applied by this release."""
    return _RECORD.format(
        version=file.version, name=file.name, checksum=file.checksum, release=PROGRAM_RELEASE
    )


def psql_script(folder: Path = MIGRATIONS_FOLDER) -> str:
    """Return the script. It does the same as this build's `normalizer migrate`."""
    first, *others = files = read_migrations(folder)
    checksums = ", ".join(
        f"('{file.version}', '{file.checksum}')" for file in files if not file.is_repeatable
    )
    head = _HEAD.format(lock_key=MIGRATION_LOCK_KEY, first=_applying(first), checksums=checksums)
    return head + "".join(
        _LOOK_UP.format(version=file.version, checksum=file.checksum, release=PROGRAM_RELEASE)
        + _applying(file)
        for file in others
    )


def _applying(file: Migration) -> str:
    return _APPLY.format(
        name=file.name,
        lock_wait_s=MIGRATION_LOCK_TIMEOUT_S,
        statements=sql_to_apply(file),
        record=statement_to_record_as_applied(file),
    )
