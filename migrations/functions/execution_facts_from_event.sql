-- Returns what one event reports about its execution. The trigger, repair, and verify all use this
-- function, so they can't disagree. `role` and `type_outcome` come from event_kinds, and are null
-- for an event type that isn't listed there. PostgreSQL inlines this function, so calling it costs
-- nothing. `offset 0` keeps PostgreSQL from encoding the time more than once.
create or replace function projector.execution_facts_from_event(
    role text, type_outcome text, event_type text, step text, status text,
    created_at timestamptz, source_topic text, source_partition integer, context jsonb,
    result jsonb
)
    returns table (
        last_event_ranked text[], begin_at timestamptz, active_at timestamptz,
        playbook_ranked text[], outcome text
    )
    language sql immutable parallel safe rows 1
begin atomic
    select array[said.moment, event_type, step, source_topic, source_partition::text],
           case when role = 'begins' then created_at end,
           case
               when role in ('ends', 'ended') or starts_with(event_type, 'workflow') then null
               else created_at
           end,
           case
               when said.named is not null
               then array[
                        '0', said.moment, left(said.named ->> 'path', 200),
                        coalesce(left(said.named ->> 'version', 100), '')
                    ]
               when role in ('begins', 'ends') and step <> ''
               then array['1', said.moment, left(step, 200), '']
           end,
           case
               when role is distinct from 'ends' then null
               when status in ('COMPLETED', 'FAILED', 'CANCELLED') then status
               else type_outcome
           end
    from   (
               select projector.encode_time(created_at) as moment,
                      -- The playbook's path and version come from the event that begins the
                      -- execution. They're in its `context`, or in `result.context` if a server has
                      -- stored there what the client sent.
                      case
                          when role is distinct from 'begins' then null
                          when jsonb_typeof(context -> 'path') = 'string'
                               and context ->> 'path' <> ''
                          then context
                          when jsonb_typeof(result #> '{context,path}') = 'string'
                               and result #>> '{context,path}' <> ''
                          then result -> 'context'
                      end as named
               offset 0
           ) as said;
end;
