-- Whether the place of an event's record in its log tells when the event happened. It doesn't if the
-- record came late, nor if another record reports the event in another log, or before it in this
-- one (merge_flags): the row has the coordinates of the record that was read first.
create or replace function projector.knows_its_place(
    created_at timestamptz, recorded_at timestamptz, merge_flags smallint
)
    returns boolean
    -- `stable`, as the sum of a time and an interval is. An immutable function is not inlined then.
    language sql stable parallel safe
    return coalesce(recorded_at < created_at + interval '5 seconds', false)
           and merge_flags & 32 = 0;
