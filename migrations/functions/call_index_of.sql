-- Which call of its command an end is of: an integer in its context, or in that of the result.
create or replace function projector.call_index_of(context jsonb, result jsonb) returns integer
    language sql immutable parallel safe
    return coalesce(
        substring((context -> 'call_index')::text from '^[0-9]{1,9}$')::integer,
        substring((result -> 'context' -> 'call_index')::text from '^[0-9]{1,9}$')::integer,
        0
    );
