-- migrate:up

-- What else keeps the projections in step with the log: truncating it, and checking them.

create function projector.project_truncate() returns trigger
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
as $$
declare
    name   regclass;
    filled boolean;
begin
    for name in
        select pg_class.oid
        from   pg_class
        where  relkind = 'r'
        and    relnamespace = 'projector'::regnamespace
        and    relname in (
                   'event_minutes', 'event_hours', 'arrival_hours', 'coercion_hours',
                   'execution_facts', 'execution_hours', 'call_facts', 'call_hours', 'call_times',
                   'worker_hours', 'error_hours', 'retry_minutes', 'archived_executions',
                   'archived_calls'
               )
    loop
        -- One that the same statement has truncated cannot be truncated again.
        execute format('select exists (select from %s)', name) into filled;
        if filled then
            execute format('truncate table %s', name);
        end if;
    end loop;
    return null;
end
$$;

create trigger project_truncated
    after truncate on normalizer.events
    for each statement execute function projector.project_truncate();

create function projector.project_quarantine_truncate() returns trigger
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
as $$
begin
    truncate table quarantine_hours;
    return null;
end
$$;

create trigger project_truncated
    after truncate on normalizer.quarantine
    for each statement execute function projector.project_quarantine_truncate();


-- The events of one hour, for projector verify: by when they happened, and by when they arrived.
create index events_by_created on normalizer.events using brin (created_at)
    with (pages_per_range = 32);
create index events_by_arrival on normalizer.events using brin ((coalesce(recorded_at, created_at)))
    with (pages_per_range = 32);


-- What projector verify found, run by run and projection by projection.
create table projector.verifications (
    verification_id bigint      not null generated always as identity,
    projection      text        not null,
    scope           text        not null,
    verdict         text        not null,
    compared        bigint      not null,
    divergent       bigint      not null,
    archived        bigint      not null,
    detail          text        not null,
    verified_at     timestamptz not null default now(),
    took_s          double precision not null,
    constraint verifications_pkey primary key (verification_id),
    constraint verifications_verdict check (verdict in ('match', 'divergent', 'inconclusive')),
    constraint verifications_scope check (scope in ('all', 'range', 'sample'))
);

comment on table projector.verifications is
    'Whether each projection agreed with the events when it was last compared, and how much was.';

-- The latest of each projection; and delete what is old.
create index verifications_by_time on projector.verifications (verified_at);


-- Where a projection is known to differ from the log: at an execution, in an hour of what is counted
-- by the hour, or, where neither is named, anywhere. It stands until a comparison of just that place
-- finds that it agrees, whatever else was compared meanwhile.
create table projector.divergences (
    divergence_id bigint      not null generated always as identity,
    projection    text        not null,
    execution_id  bigint,
    hour          timestamptz,
    noted_by      text        not null,
    noted_at      timestamptz not null default clock_timestamp(),
    ended_by      text,
    ended_at      timestamptz,
    constraint divergences_pkey primary key (divergence_id),
    constraint divergences_location check (execution_id is null or hour is null),
    constraint divergences_noted_by check (noted_by in ('verify', 'repair', 'off')),
    constraint divergences_end check (
        (ended_by is null) = (ended_at is null) and ended_by = 'verified'
    )
);

comment on table projector.divergences is
    'Where projections are known to differ from the log, and how that ended.';
comment on column projector.divergences.noted_by is
    'verify compared it; repair changed an execution whose roll-ups may differ there; off: events '
    'went in without their projections.';
comment on column projector.divergences.ended_by is
    'verified: a later comparison of that place found that it agrees. Null: it stands, and retention '
    'takes nothing of that execution.';

-- What stands, for the view agreement and for projector repair.
create index divergences_open on projector.divergences (projection, execution_id, hour)
    where ended_at is null;
-- Delete what is old.
create index divergences_by_end on projector.divergences (ended_at) where ended_at is not null;

insert into migrations.applied (version) values ('0007') on conflict do nothing;

-- migrate:down
