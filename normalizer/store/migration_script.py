"""Prints the migrations as one script for psql, for a DBA who doesn't run our programs.

It applies the files that a database lacks, each in a transaction, and stores their checksums.
"""

from pathlib import Path
from typing import Final

from normalizer.store.migrate import LOCK_KEY
from normalizer.store.migration_files import FOLDER, Migration, read_migrations

_HEAD: Final = """\
-- For psql, as the role that will own the tables. It applies what this database lacks, and stores
-- the checksum of each file, so that `normalizer migrate` recognizes them.
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
    select from migrations.applied where version = '{version}'
) as is_pending \\gset
"""
_APPLY: Final = """\
\\if :is_pending
\\echo applying {name}
begin;
{text}
update migrations.applied
set    name     = '{name}',
       checksum = '{checksum}'
where  version  = '{version}';
commit;
\\endif
"""


def migration_script(folder: Path = FOLDER) -> str:
    """Return the script, which does what this build's `normalizer migrate` would do."""
    first, *others = files = read_migrations(folder)
    checksums = ", ".join(f"('{file.version}', '{file.checksum}')" for file in files)
    head = _HEAD.format(lock_key=LOCK_KEY, first=_applying(first), checksums=checksums)
    return head + "".join(
        _LOOK_UP.format(version=file.version) + _applying(file) for file in others
    )


def _applying(file: Migration) -> str:
    return _APPLY.format(
        name=file.name, text=file.text, checksum=file.checksum, version=file.version
    )
