-- Takes a ranked value that ends in a number, such as duration_ranked or max_attempts_ranked, or an
-- encoded time (encode_time). Returns the number, which is its last 16 characters in hexadecimal
-- digits. 0004_create_projector.sql shows the layouts, and call_facts_from_event writes them. The
-- views of calls and call_finished_at call this. For example, `0 10002f93cbbf3060a
-- 000000000007a120`, without the spaces, gives 500000, i.e. a duration of half a second.
--
-- The digits sort in the same order as the numbers that they encode, which is why a ranked value
-- has them. If the last characters aren't such digits, the result is null instead of an error,
-- because one damaged row must not break a query over all others.
create or replace function projector.ranked_value_as_bigint(ranked text) returns bigint
    language sql immutable parallel safe
    return case
        when ltrim(right(ranked, 16), '0123456789abcdef') = ''
        then ('x' || right(ranked, 16))::bit(64)::bigint
    end;
