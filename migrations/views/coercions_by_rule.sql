create or replace view projector.coercions_by_rule as
select   hour, shape, rule, sum(coercions)::bigint as coercions
from     projector.coercion_hours
group by hour, shape, rule
having   sum(coercions) <> 0;

comment on view projector.coercions_by_rule is
    'Which values had their meaning changed or guessed, by which rule, in which shape? Counted by '
    'the hour in which Kafka received them.';
comment on column projector.coercions_by_rule.hour is 'the hour, UTC';
comment on column projector.coercions_by_rule.shape is 'wire shape of the record';
comment on column projector.coercions_by_rule.rule is 'name of the rule';
comment on column projector.coercions_by_rule.coercions is
    'values whose meaning was changed or guessed';

grant select on projector.coercions_by_rule to normalizer_writer, projector_reader;
