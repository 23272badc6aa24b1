-- The rank of the end (end_rank) at the beginning of outcome_ranked or error_ranked.
create or replace function projector.ranked_end(ranked text) returns text
    language sql immutable parallel safe
    return left(ranked, 20);
