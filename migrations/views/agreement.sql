create or replace view projector.agreement as
with latest as (
    select distinct on (projection) *
    from   projector.verifications
    order by projection, verified_at desc, verification_id desc
),
differed as (
    select distinct on (projection) projection, detail
    from   projector.verifications
    where  verdict = 'divergent'
    order by projection, verified_at desc, verification_id desc
),
scoped as (
    select   projection,
             max(verified_at) filter (where scope = 'all')    as all_verified_at,
             max(verified_at) filter (where scope = 'range')  as range_verified_at,
             max(verified_at) filter (where scope = 'sample') as sample_verified_at
    from     projector.verifications
    where    verdict <> 'inconclusive'
    group by projection
),
standing as (
    select   projection, count(distinct (execution_id, hour)) as divergent,
             min(noted_at) as divergent_since
    from     projector.divergences
    where    ended_at is null
    group by projection
)
select projection,
       case
           when standing.divergent > 0 then 'divergent'
           when latest.verdict = 'divergent' then 'match'
           else latest.verdict
       end as verdict,
       coalesce(latest.scope, '') as scope, latest.since as compared_since,
       latest.until as compared_until, coalesce(latest.compared, 0) as compared,
       coalesce(standing.divergent, 0) as divergent, standing.divergent_since,
       coalesce(latest.archived, 0) as archived,
       case when standing.divergent > 0 then coalesce(differed.detail, '') else latest.detail end
           as detail,
       latest.verified_at, latest.took_s,
       extract(epoch from now() - latest.verified_at)::double precision as age_s,
       scoped.all_verified_at, scoped.range_verified_at, scoped.sample_verified_at
from   latest
full join standing using (projection)
left join differed using (projection)
left join scoped using (projection);

comment on view projector.agreement is
    'Do the views agree with the stored events? divergent is the number of open divergences of a '
    'projection. It stays until a comparison that covers them finds agreement. Without open '
    'divergences, the row has the last result of `projector verify`. It also says when each scope '
    'was last compared: all, a range of hours, or a sample.';
comment on column projector.agreement.projection is 'name of the compared projection';
comment on column projector.agreement.verdict is 'match, divergent or inconclusive';
comment on column projector.agreement.scope is 'everything, range or sample';
comment on column projector.agreement.compared_since is
    'first hour that was compared, or null without a limit';
comment on column projector.agreement.compared_until is
    'end of the last hour that was compared, or null without a limit';
comment on column projector.agreement.compared is
    'rows compared, or 0 if there was nothing to compare';
comment on column projector.agreement.divergent is
    'executions or hours that are known to differ and were not compared since';
comment on column projector.agreement.divergent_since is 'when the oldest of them was found';
comment on column projector.agreement.archived is
    'events that were not compared because they are deleted';
comment on column projector.agreement.detail is 'what differs, or why there is no verdict';
comment on column projector.agreement.verified_at is 'when it was last compared';
comment on column projector.agreement.took_s is 'seconds that the comparison took';
comment on column projector.agreement.age_s is 'seconds since then';
comment on column projector.agreement.all_verified_at is 'when all of it was last compared';
comment on column projector.agreement.range_verified_at is 'when a range of it was last compared';
comment on column projector.agreement.sample_verified_at is 'when a sample of it was last compared';

grant select on projector.agreement to normalizer_writer, projector_reader;
