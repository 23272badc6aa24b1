"""The SQL statements of the lag monitor."""

from typing import Final

READ_SERVER: Final = """
    select   current_setting('transaction_read_only') = 'off' as writable,
             -- Without this right, transactions of other roles are hidden, so the age is unknown.
             case when pg_has_role('pg_read_all_stats', 'usage')
                  then coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0) end
                 ::double precision as snapshot_s
    from     pg_stat_activity
    where    backend_xmin is not null
    and      backend_type = 'client backend'
    and      pid <> pg_backend_pid()
    -- A running vacuum has a snapshot too, but that doesn't stop another vacuum.
    and      pid not in (select pid from pg_stat_progress_vacuum)
"""
READ_AGREEMENT: Final = """
    select   coalesce(sum(divergent), 0)::bigint as divergent,
             coalesce(extract(epoch from now() - min(divergent_since)), 0)::double precision
                 as divergent_s,
             array[
                 case when bool_and(all_verified_at is not null)
                      then extract(epoch from now() - min(all_verified_at)) end,
                 case when bool_and(range_verified_at is not null)
                      then extract(epoch from now() - min(range_verified_at)) end,
                 case when bool_and(sample_verified_at is not null)
                      then extract(epoch from now() - min(sample_verified_at)) end
             ]::double precision[] as unverified_s
    from     projector.agreement
"""
READ_JOBS: Final = """
    select   kind, state, count(*) as jobs, min(progress_ratio) as progress_ratio
    from     projector.jobs
    where    state in ('running', 'interrupted')
    group by kind, state
"""
# Stores no value of an execution that was erased.
ADD_DRIFT: Final = """
    insert into normalizer.drift_findings (
        shape, field, type, kind, source_topic, source_incarnation, source_partition,
        source_offset, example
    )
    select $1::text, $2::text, $3::text, $4::text, $5::text, $6::integer, $7::integer, $8::bigint,
           $9::text
    where  not exists (
               select from normalizer.forgotten_executions
               where  execution_id = any($10::bigint[])
           )
    on conflict do nothing
    returning true
"""
