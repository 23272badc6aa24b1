-- migrate:up

-- What is taken out of the tables on somebody's word: an execution that is to be forgotten
-- (normalizer forget), and secrets that were stored under older rules (normalizer redact).
--
-- Forgetting is archiving, whatever the age: counts move to the archived part as retention moves
-- them (0009_let_events_go.sql), and nothing of the execution stays but its id in a list, so that no
-- writer takes it in again.

set search_path = "$user", public, normalizer;


create table normalizer.forgotten_execution (
    execution_id bigint      not null,
    at           timestamptz not null default now(),
    who          text        not null,
    why          text        not null,
    events       bigint      not null default 0,
    refused      bigint      not null default 0,
    ended_at     timestamptz,
    constraint forgotten_execution_pkey primary key (execution_id)
);

comment on table normalizer.forgotten_execution is
    'Executions that were erased by `normalizer forget`: who asked, when and why, and no content. '
    'Events of these are ignored, whoever reads them. Read by every transaction that writes events.';
comment on column normalizer.forgotten_execution.events is 'How many of its events were deleted.';
comment on column normalizer.forgotten_execution.refused is
    'How many refused records were emptied: their coordinates and their reason stay, for the ledger.';
comment on column normalizer.forgotten_execution.ended_at is
    'When the last of it was gone. Null: it was not yet, and the same command goes on.';

grant select on normalizer.forgotten_execution to normalizer_writer;


-- Takes away what is left of an execution without events: its calls, as retention forgets them, and
-- then what retention would leave behind for events that come later, for none will. Gives whether it
-- is gone: not where what is shown of it is not what its events said.
create function projector.erase_execution(execution_id bigint) returns boolean
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
as $$
begin
    perform forget_executions(array[erase_execution.execution_id]);
    delete from execution_facts as known
    where  known.execution_id = erase_execution.execution_id
    and    known.forgotten;
    if exists (
        select
        from   execution_facts as known
        where  known.execution_id = erase_execution.execution_id
    ) then
        return false;
    end if;
    delete from archived_executions as kept
    where  kept.execution_id = erase_execution.execution_id;
    return true;
end
$$;


-- They write as their owner: for normalizer forget and normalizer redact only.
revoke execute on function projector.erase_execution(bigint) from public;

insert into migrations.applied (version) values ('0014') on conflict do nothing;

-- migrate:down
