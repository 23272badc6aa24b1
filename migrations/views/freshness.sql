-- Selects the positions that operators have retired. A retirement is valid only for the epoch in
-- which it was made. Claiming a position raises its epoch, so a process that claims a retired
-- position puts it back into use.
create or replace view projector.freshness as
with retired as (
    select topic, incarnation, partition
    from   normalizer.source_positions
    join   normalizer.position_changes using (topic, incarnation, partition, epoch)
    where  action = 'retire'
)
select known.topic, known.partition, position.incarnation,
       case
           when position.topic is null then 'unclaimed'
           when coalesce(reported.heartbeat_at < now() - interval '10 seconds', true) then 'dead'
           when reported.stopped then 'stopped'
           when reported.log_end is null then 'reading'
           when reported.end_seen_at < now() - interval '10 seconds' then 'broker_away'
           when position.next_offset >= reported.log_end then 'caught_up'
           when least(reported.behind_since, read.as_of)
                < reported.heartbeat_at - interval '10 seconds'
           then 'behind'
           else 'reading'
       end as state,
       position.next_offset, reported.log_end,
       reported.log_end - least(position.next_offset, reported.log_end) as unread,
       read.as_of,
       extract(
           epoch from
           reported.heartbeat_at
           - case when reported.behind_since is null and reported.log_end is not null
                  then reported.heartbeat_at else read.as_of end
       )::double precision as behind_s,
       reported.heartbeat_at, reported.end_seen_at,
       position.records, position.stored, position.merged, position.duplicate,
       position.quarantined, position.ignored,
       to_timestamp(position.last_recorded_ms / 1000.0) as last_recorded_at,
       position.committed_at as last_committed_at,
       extract(epoch from position.committed_at)::double precision
           - position.last_recorded_ms / 1000.0::double precision as delay_s,
       extract(epoch from now() - position.committed_at)::double precision as silent_s
from   (
           select topic, partition
           from   normalizer.source_positions
           union
           select topic, generate_series(0, partition_count - 1)
           from   normalizer.source_heartbeats
           where  (topic, incarnation, partition) not in (
                      select topic, incarnation, partition from retired
                  )
       ) as known (topic, partition)
left join lateral (
    select   *
    from     normalizer.source_positions as latest
    where    latest.topic = known.topic and latest.partition = known.partition
    order by incarnation desc
    limit    1
) as position on true
left join normalizer.source_heartbeats as reported
       on  reported.topic = known.topic and reported.partition = known.partition
       and reported.incarnation = position.incarnation
-- If the log was never read up to a known end, use the time of the last record that was read.
cross join lateral (
    select coalesce(
               case
                   when reported.behind_since is null then reported.end_seen_at
                   else nullif(reported.behind_since, reported.mark_at)
               end,
               to_timestamp(position.last_recorded_ms / 1000.0)
           ) as as_of
) as read
where  not exists (
           select
           from   retired
           where  (retired.topic, retired.incarnation, retired.partition)
                = (position.topic, position.incarnation, position.partition)
       );

comment on view projector.freshness is
    'How fresh is what all views show, and is a process keeping it fresh? state: caught_up '
    '(all of the log is stored), reading, behind (by more than 10 s), dead (no heartbeat '
    'for 10 s: no process), broker_away (a heartbeat, but the broker does not report '
    'the end of the log), stopped (the process leaves the partition alone), unclaimed (never '
    'read). as_of: every record that the log held at this time is in every view. Until a log '
    'was read to an end that was seen, that is the time of the last record that was read. '
    'A partition that an operator retired is left out until a process claims it.';
comment on column projector.freshness.topic is 'topic';
comment on column projector.freshness.partition is 'partition of the topic';
comment on column projector.freshness.incarnation is
    'how often the topic was deleted and created again';
comment on column projector.freshness.state is 'state of the partition';
comment on column projector.freshness.next_offset is 'offset of the next record to read';
comment on column projector.freshness.log_end is
    'the offset after the last committed record of the log';
comment on column projector.freshness.unread is
    'offsets from next_offset to log_end, or null while that is not known';
comment on column projector.freshness.as_of is
    'every record that the log held at this time is in every view';
comment on column projector.freshness.behind_s is
    'seconds from as_of to the heartbeat, or 0 if everything is stored, null while nothing was '
    'read';
comment on column projector.freshness.heartbeat_at is
    'when the process that owns the partition last wrote its heartbeat';
comment on column projector.freshness.end_seen_at is
    'when the broker last reported the end of the log';
comment on column projector.freshness.records is 'number of records that were read';
comment on column projector.freshness.stored is 'outcomes that became rows';
comment on column projector.freshness.merged is
    'outcomes that changed an event that was stored already';
comment on column projector.freshness.duplicate is 'outcomes that were stored already';
comment on column projector.freshness.quarantined is 'outcomes that were rejected';
comment on column projector.freshness.ignored is
    'outcomes that are no event: tombstones, empty batches, expired events';
comment on column projector.freshness.last_recorded_at is
    'Kafka time of the last record that was read';
comment on column projector.freshness.last_committed_at is 'when the last record was committed';
comment on column projector.freshness.delay_s is
    'seconds from the Kafka time of the last record to its commit here';
comment on column projector.freshness.silent_s is 'seconds since then';

grant select on projector.freshness to normalizer_writer, projector_reader;
