"""The SQL statements of the ledger check."""

from typing import Final

# read_to is the highest position that the partition ever had. It's above next_offset if an operator
# has set the position back.
POSITIONS: Final = """
    select   topic, incarnation, partition, cluster_id, start_offset, next_offset,
             greatest(next_offset, (
                 select max(from_offset)
                 from   normalizer.position_changes as change
                 where  change.topic = position.topic and change.partition = position.partition
                 and    change.incarnation = position.incarnation
             )) as read_to,
             rewound, records, holes, outcomes, stored, duplicate, merged, quarantined, ignored,
             last_offset, last_recorded_ms, last_crc,
             incarnation = max(incarnation) over (partition by topic, partition) as is_newest
    from     normalizer.source_positions as position
    order by topic, incarnation, partition
"""


ARCHIVED: Final = """
    select   source_topic, source_incarnation, source_partition, job_id, run, events, quarantined
    from     normalizer.archived_rows
    order by source_topic, source_incarnation, source_partition, job_id, run
"""


STORED: Final = """
    select   event.source_topic, event.source_incarnation, event.source_partition, count(*)
    from     normalizer.events as event
    join     unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[])
                 as read (topic, incarnation, partition, read_to)
             on  event.source_topic = read.topic
             and event.source_incarnation = read.incarnation
             and event.source_partition = read.partition
             and event.source_offset < read.read_to
    where    event.event_id between $5::bigint and $6::bigint
    and      not exists (
                 select from normalizer.job_batches as written
                 where  written.batch_id = event.batch_id
             )
    group by 1, 2, 3
"""


# The batches of a run are committed in ascending order, so rows up to the last committed one are in
# the totals, and later rows aren't.
RUNS: Final = """
    select   job.job_id, job.run, job.spec, written.last_batch_id,
             sum(part.stored)::bigint as stored, sum(part.quarantined)::bigint as quarantined
    from     normalizer.jobs      as job
    join     normalizer.job_parts as part using (job_id, run)
    join     (
                 select   job_id, run, max(batch_id) as last_batch_id
                 from     normalizer.job_batches
                 group by job_id, run
             ) as written using (job_id, run)
    group by job.job_id, job.run, written.last_batch_id
    order by job.job_id, job.run
"""


STORED_BY_RUN: Final = """
    select   written.job_id, written.run, count(*)
    from     normalizer.events    as event
    join     normalizer.job_batches as written using (batch_id)
    join     unnest($1::text[], $2::integer[], $3::bigint[])
                 as noted (job_id, run, last_batch_id)
             on  written.job_id = noted.job_id
             and written.run = noted.run
             and written.batch_id <= noted.last_batch_id
    where    event.event_id between $4::bigint and $5::bigint
    group by 1, 2
"""


QUARANTINED: Final = """
    select   rejected.source_topic, rejected.source_incarnation, rejected.source_partition, count(*)
    from     normalizer.quarantine as rejected
    join     unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[])
                 as read (topic, incarnation, partition, read_to)
             on  rejected.source_topic = read.topic
             and rejected.source_incarnation = read.incarnation
             and rejected.source_partition = read.partition
             and rejected.source_offset < read.read_to
    where    not exists (
                 select from normalizer.job_batches as written
                 where  written.batch_id = rejected.batch_id
             )
    group by 1, 2, 3
"""


QUARANTINED_BY_RUN: Final = """
    select   written.job_id, written.run, count(*)
    from     normalizer.quarantine as rejected
    join     normalizer.job_batches  as written using (batch_id)
    join     unnest($1::text[], $2::integer[], $3::bigint[])
                 as noted (job_id, run, last_batch_id)
             on  written.job_id = noted.job_id
             and written.run = noted.run
             and written.batch_id <= noted.last_batch_id
    group by 1, 2
"""


COUNTED: Final = """
    select   topic, incarnation, partition, sum(offsets)::bigint
    from     (
                 select topic, incarnation, partition, offsets
                 from   normalizer.gaps
                 union all
                 select source_topic, source_incarnation, source_partition, holes
                 from   normalizer.archived_rows
                 where  holes > 0
             ) as counted (topic, incarnation, partition, offsets)
    group by topic, incarnation, partition
"""


MISSING: Final = """
    select   topic, incarnation, partition, reason, lower(gone), upper(gone)
    from     normalizer.gaps
    cross join unnest(missing) as gone
    order by topic, incarnation, partition, lower(gone)
"""
