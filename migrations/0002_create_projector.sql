-- migrate:up

-- Schema projector: read models that move in the transaction of the events they count.
-- Views are the contract; the tables behind them may change.

create schema projector;

create table projector.event_minutes (
    minute     timestamptz not null,
    event_type text        not null,
    status     text        not null,
    attempts   integer     not null,
    shard      smallint    not null,
    events     bigint      not null,
    constraint event_minutes_pkey primary key (minute, event_type, status, attempts, shard)
) with (fillfactor = 70);

comment on table projector.event_minutes is
    'Events per minute of created_at. A shard alone means nothing (a row may be counted in one and '
    'taken back in another): only the sum over shards does.';


-- One mechanism for insert, join, re-normalise, redrive and SQL by hand: -old +new. Keys are
-- touched in one order by every writer, or writers would deadlock.
create function projector.shard_of(source_partition integer) returns smallint
    language sql stable parallel safe
    return source_partition % 8
        + coalesce(nullif(current_setting('projector.shard_base', true), '')::integer, 0);

comment on function projector.shard_of(integer) is
    'Counter shard: 0-7 by partition for the service; jobs set projector.shard_base to 8.';

create function projector.count_inserted_minutes() returns trigger
    language plpgsql
as $$
begin
    insert into projector.event_minutes as counted (minute, event_type, status, attempts, shard, events)
    select   date_trunc('minute', event.created_at, 'UTC'), event.event_type, event.status, event.attempts,
             projector.shard_of(event.source_partition), count(*)
    from     inserted as event
    group by 1, 2, 3, 4, 5
    order by 1, 2, 3, 4, 5
    on conflict on constraint event_minutes_pkey
    do update set events = counted.events + excluded.events;
    return null;
end
$$;

create function projector.count_changed_minutes() returns trigger
    language plpgsql
as $$
begin
    insert into projector.event_minutes as counted (minute, event_type, status, attempts, shard, events)
    select   date_trunc('minute', moved.created_at, 'UTC'), moved.event_type, moved.status, moved.attempts,
             projector.shard_of(moved.source_partition), sum(moved.events)
    from     (
                 select created_at, event_type, status, attempts, source_partition, -1 as events from before
                 union all
                 select created_at, event_type, status, attempts, source_partition, 1 from after
             ) as moved
    group by 1, 2, 3, 4, 5
    having   sum(moved.events) <> 0
    order by 1, 2, 3, 4, 5
    on conflict on constraint event_minutes_pkey
    do update set events = counted.events + excluded.events;
    return null;
end
$$;

create function projector.count_deleted_minutes() returns trigger
    language plpgsql
as $$
begin
    insert into projector.event_minutes as counted (minute, event_type, status, attempts, shard, events)
    select   date_trunc('minute', event.created_at, 'UTC'), event.event_type, event.status, event.attempts,
             projector.shard_of(event.source_partition), -count(*)
    from     before as event
    group by 1, 2, 3, 4, 5
    order by 1, 2, 3, 4, 5
    on conflict on constraint event_minutes_pkey
    do update set events = counted.events + excluded.events;
    return null;
end
$$;

create trigger event_minutes_inserted
    after insert on normalizer.events
    referencing new table as inserted
    for each statement execute function projector.count_inserted_minutes();

create trigger event_minutes_changed
    after update on normalizer.events
    referencing old table as before new table as after
    for each statement execute function projector.count_changed_minutes();

create trigger event_minutes_deleted
    after delete on normalizer.events
    referencing old table as before
    for each statement execute function projector.count_deleted_minutes();


create view projector.attempts_by_status as
select   minute, event_type, status, attempts, sum(events)::bigint as events
from     projector.event_minutes
group by minute, event_type, status, attempts
having   sum(events) <> 0;

comment on view projector.attempts_by_status is
    'How many events of each type ended in which status at which attempt (0 = first try), by '
    'minute of created_at?';

grant usage on schema projector to normalizer_writer, projector_reader;
grant select, insert, update on projector.event_minutes to normalizer_writer;
grant select on projector.attempts_by_status to normalizer_writer, projector_reader;

insert into migrations.applied (version) values ('0002') on conflict do nothing;

-- migrate:down
