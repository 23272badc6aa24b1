-- Returns the outcome with the earliest of these times. If several have the same time, the worst of
-- them counts. Returns an empty text if all three are null.
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
