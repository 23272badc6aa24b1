-- How long after it happened Kafka received an event, as a number of arrival_hours.lateness.
create or replace function projector.lateness_of(created_at timestamptz, recorded_at timestamptz)
    returns smallint
    language sql stable parallel safe
    return case
        when recorded_at >= created_at and recorded_at < created_at + interval '1 second' then 2
        when recorded_at is null then 0
        when recorded_at < created_at - interval '1 second' then 1
        when recorded_at < created_at + interval '1 second' then 2
        when recorded_at < created_at + interval '10 seconds' then 3
        when recorded_at < created_at + interval '1 minute' then 4
        when recorded_at < created_at + interval '10 minutes' then 5
        when recorded_at < created_at + interval '1 hour' then 6
        when recorded_at < created_at + interval '24 hours' then 7
        else 8
    end::smallint;
