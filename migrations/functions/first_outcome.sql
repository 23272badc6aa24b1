-- Returns the outcome that came first, according to these times. If several came at the same time,
-- the worst of them counts. If all three times are null, the execution has no outcome yet, and the
-- result is an empty text.
create or replace function projector.first_outcome(
    completed_at timestamptz, failed_at timestamptz, cancelled_at timestamptz
) returns text
    language sql immutable parallel safe
    return case least(failed_at, cancelled_at, completed_at)
        when failed_at then 'FAILED'
        when cancelled_at then 'CANCELLED'
        when completed_at then 'COMPLETED'
        else ''
    end;
