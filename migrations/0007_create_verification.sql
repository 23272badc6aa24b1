-- Truncation and verification also keep projections equal to the log.

-- Truncates the tables that are its arguments: what is projected of the table of its trigger.
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
        and    relname = any(tg_argv)
    loop
        -- A table that the same statement truncated cannot be truncated again.
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
    for each statement execute function projector.project_truncate(
        'event_minutes', 'event_hours', 'arrival_hours', 'coercion_hours', 'execution_facts',
        'execution_hours', 'call_facts', 'call_hours', 'call_times', 'worker_hours', 'error_hours',
        'retry_minutes'
    );

create trigger project_truncated
    after truncate on normalizer.quarantine
    for each statement execute function projector.project_truncate('quarantine_hours');


-- No row holds what no event can say: times are within the calendar, a call has a number of
-- attempts that an event can have, and a sum is small enough for the shard of repairs (64) to hold
-- the difference of all shards.
do $$
declare
    projection record;
begin
    for projection in
        select   relname as name,
                 string_agg(
                     format(
                         case atttypid
                             when 'timestamptz'::regtype
                             then '%1$I >= ''0001-01-01 00:00:00+00'' '
                                  'and %1$I < ''10000-01-01 00:00:00+00'''
                             when 'bigint'::regtype
                             then '(shard = 64 '
                                  'or %I between -(1::bigint << 56) and 1::bigint << 56)'
                             when 'numeric'::regtype then '%I between -1e30 and 1e30'
                             else '%I between 0 and 32767'
                         end,
                         attname
                     ),
                     ' and ' order by attnum
                 ) as possible
        from     pg_class
        join     pg_attribute on attrelid = pg_class.oid and attnum > 0
        where    relnamespace = 'projector'::regnamespace
        and      relkind = 'r'
        and      (
                     relname ~ '_(minutes|hours|times)$' and atttypid in (
                         'timestamptz'::regtype, 'bigint'::regtype, 'numeric'::regtype
                     )
                     or relname in ('execution_facts', 'call_facts')
                        and (atttypid = 'timestamptz'::regtype or attname = 'attempts')
                 )
        group by relname
    loop
        execute format(
            'alter table projector.%1$I add constraint %1$s_possible check (%2$s)',
            projection.name, projection.possible
        );
    end loop;
end
$$;


-- Not BRIN: new rows take the place of deleted ones, and the summary of a block range only widens.
-- After five turns of retention each look-up would read the whole table.
create index events_by_created on normalizer.events (created_at);
comment on index normalizer.events_by_created is
    'Query: events of one hour, by created_at (projector verify).';
create index events_by_arrival on normalizer.events (coalesce(recorded_at, created_at));
comment on index normalizer.events_by_arrival is
    'Query: events of one hour, by arrival (projector verify, and retention, which looks for old '
    'events).';


create table projector.verifications (
    verification_id bigint      not null generated always as identity,
    projection      text        not null,
    scope           text        not null,
    verdict         text        not null,
    compared        bigint      not null,
    divergent       bigint      not null,
    archived        bigint      not null,
    detail          text        not null,
    since           timestamptz,
    until           timestamptz,
    verified_at     timestamptz not null default now(),
    took_s          double precision not null,
    constraint verifications_pkey primary key (verification_id),
    constraint verifications_verdict check (verdict in ('match', 'divergent', 'inconclusive')),
    constraint verifications_scope check (scope in ('all', 'range', 'sample'))
);

comment on table projector.verifications is
    'Private: results of projector verify: whether each projection agreed with the events, and '
    'how much was compared. View: agreement.';


create table projector.divergences (
    divergence_id bigint      not null generated always as identity,
    projection    text        not null,
    execution_id  bigint,
    hour          timestamptz,
    noted_by      text        not null,
    noted_at      timestamptz not null default clock_timestamp(),
    ended_at      timestamptz,
    constraint divergences_pkey primary key (divergence_id),
    constraint divergences_location check (execution_id is null or hour is null),
    constraint divergences_noted_by check (noted_by in ('verify', 'repair', 'off'))
);

comment on table projector.divergences is
    'Private: where projections are known to differ from the log: one execution, one hour, or, '
    'if both are null, anywhere. A divergence is open until a comparison of just that '
    'execution or hour finds agreement. View: agreement.';
comment on column projector.divergences.noted_by is
    'verify: a comparison found it. repair: an execution was rebuilt, so its roll-ups may '
    'differ. off: events were stored without their projections.';
comment on column projector.divergences.ended_at is
    'When a later comparison found that the projection agrees. Null while the divergence is '
    'open; retention then deletes nothing of that execution.';

create index divergences_open on projector.divergences (projection, execution_id, hour)
    where ended_at is null;
comment on index projector.divergences_open is
    'Query: open divergences (view agreement, projector repair).';

insert into migrations.applied (version) values ('0007') on conflict do nothing;
