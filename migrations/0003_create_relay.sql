-- Tables of `normalizer relay --from-postgres`, which sends stored events to a Kafka topic.
--
-- While a relay is registered, each statement that inserts or updates events adds their ids to
-- event_changes, together with the id of its transaction. The relay sends the events in the order
-- of transaction ids, and sends each row as it is at that moment. It reads only changes below
-- pg_snapshot_xmin, because all of their transactions have ended. So no transaction can still
-- commit a change that the relay has already passed. A sequence couldn't ensure that, because a
-- transaction may take its number first and commit last.


create table normalizer.relay_registration (
    one_row             boolean not null default true,
    registration        text    not null,
    group_id            text    not null,
    sent_transaction_id xid8    not null default '0',
    sent_change_id      bigint  not null default 0,
    constraint relay_registration_pkey primary key (one_row),
    constraint relay_registration_one_row check (one_row)
);

comment on table normalizer.relay_registration is
    'Private: one row while a relay is registered. Without it, no change is recorded. Every '
    'statement that writes events reads it.';
comment on column normalizer.relay_registration.one_row is 'There is one relay at most.';
comment on column normalizer.relay_registration.registration is
    'A name made when the relay was registered. Its position in Kafka names it too.';
comment on column normalizer.relay_registration.group_id is
    'The consumer group whose offset is the position of the relay.';
comment on column normalizer.relay_registration.sent_transaction_id is
    'Changes up to this one and sent_change_id were sent, and are deleted: a position in Kafka '
    'before it cannot be gone on from.';
comment on column normalizer.relay_registration.sent_change_id is
    'The change of sent_transaction_id up to which all are deleted.';


create table normalizer.event_changes (
    transaction_id xid8        not null default pg_current_xact_id(),
    change_id      bigint      not null generated always as identity,
    event_ids      bigint[]    not null,
    noted_at       timestamptz not null default clock_timestamp(),
    constraint event_changes_pkey primary key (transaction_id, change_id)
);

-- Compressing the ids would cost more than it saves.
alter table normalizer.event_changes alter column event_ids set storage external;

comment on table normalizer.event_changes is
    'Private: which events were inserted or updated since a relay was registered, and not sent '
    'yet. The relay deletes a row after it has sent its events.';
comment on column normalizer.event_changes.transaction_id is
    'The transaction that changed them, counted from the first one of the cluster.';
comment on column normalizer.event_changes.change_id is
    'Distinguishes the changes of one transaction.';
comment on column normalizer.event_changes.event_ids is 'At most 1,000 of the events.';
comment on column normalizer.event_changes.noted_at is 'When they were changed.';

grant select, insert, delete, update (sent_transaction_id, sent_change_id)
    on normalizer.relay_registration to normalizer_writer;
grant select, delete on normalizer.event_changes to normalizer_writer;

insert into migrations.applied (version) values ('0003') on conflict do nothing;
