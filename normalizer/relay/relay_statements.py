"""The SQL statements that read stored events for the relay.

Transaction ids are passed as bigint: 64 bits, counted from the cluster's first transaction.
"""

from typing import Final

READ_REGISTRATION: Final = "select registration, group_id from normalizer.event_relay"

REGISTER: Final = """
    insert into normalizer.event_relay (registration, group_id)
    values ($1::text, $2::text)
    on conflict on constraint event_relay_pkey do nothing
"""

# This is one statement, so that it can't delete changes that are recorded for a relay that
# registers in the meantime. It deletes the registration first, because a running relay locks the
# two tables in that order (DELETE_SENT), and the other order could deadlock with it.
UNREGISTER: Final = """
    with gone as (delete from normalizer.event_relay returning true)
    delete from normalizer.event_changes
    where  (select count(*) from gone) >= 0
"""

# Returns a new transaction's number, which is above those of all transactions that have one.
TAKE_TRANSACTION: Final = "select pg_current_xact_id()::text::bigint"

# Returns the number of the first transaction that may still be running, and of the one after the
# last that has ended, both from the same snapshot. It also returns the server's clock and the oid
# of the table of changes. After a restore from a dump, the table has another oid.
READ_HORIZON: Final = """
    select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as oldest_running,
           pg_snapshot_xmax(pg_current_snapshot())::text::bigint as next_transaction,
           (extract(epoch from clock_timestamp()) * 1000000)::bigint as clock_us,
           'normalizer.event_changes'::regclass::oid::bigint as changes_table
"""

# Returns whole changes, until these have $3 ids or more.
FIND_CHANGES: Final = """
    with later as (
        select   transaction_id, change_id, event_ids, noted_at,
                 sum(cardinality(event_ids)) over (order by transaction_id, change_id)
                     - cardinality(event_ids) as ids_before
        from     (
                     select   *
                     from     normalizer.event_changes
                     where    (transaction_id, change_id) > ($1::bigint::text::xid8, $2::bigint)
                     and      transaction_id < pg_snapshot_xmin(pg_current_snapshot())
                     order by transaction_id, change_id
                     limit    1000
                 ) as next
    )
    select   transaction_id::text::bigint as transaction_id, change_id, event_ids, noted_at,
             pg_snapshot_xmin(pg_current_snapshot())::text::bigint as oldest_running
    from     later
    where    ids_before < $3::integer
    order by later.transaction_id, change_id
"""

# Deletes the changes that were sent, if this relay is still registered. Changes recorded after the
# latest sent one ($3) are kept, even if they have a lower number, because they were never sent.
# Such numbers occur only in a restored database, which READ_STATE reports.
DELETE_SENT: Final = """
    with moved as (
        update normalizer.event_relay
        set    sent_transaction_id = $1::bigint::text::xid8, sent_change_id = $2::bigint
        where  registration = $4::text
        and    (sent_transaction_id, sent_change_id) < ($1::bigint::text::xid8, $2::bigint)
        returning true
    )
    delete from normalizer.event_changes
    where  (transaction_id, change_id) <= ($1::bigint::text::xid8, $2::bigint)
    and    noted_at <= $3::timestamptz
    and    exists (select from moved)
"""

# In a database that was restored, transaction numbers are given out again. It's noticed by a change
# with a number that the relay has already passed, or with a number that no transaction has had yet.
READ_STATE: Final = """
    select exists (
               select from normalizer.event_relay where registration = $4::text
           ) as is_registered,
           exists (
               select from normalizer.event_changes
               where  (transaction_id, change_id) <= ($1::bigint::text::xid8, $2::bigint)
               and    noted_at > $3::timestamptz
           ) or exists (
               select from normalizer.event_changes
               where  transaction_id >= pg_snapshot_xmax(pg_current_snapshot())
           ) as was_restored,
           exists (
               select from normalizer.event_relay
               where  registration = $4::text
               and    (sent_transaction_id, sent_change_id)
                      > ($1::bigint::text::xid8, $2::bigint)
           ) as went_back,
           coalesce(
               (
                   select   extract(epoch from clock_timestamp() - noted_at)
                   from     normalizer.event_changes
                   where    (transaction_id, change_id) > ($1::bigint::text::xid8, $2::bigint)
                   order by transaction_id, change_id
                   limit    1
               ),
               0
           )::double precision as lag_s
"""
