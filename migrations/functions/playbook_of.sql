-- The path in a ranked playbook (execution_facts.playbook_ranked). Empty while it is not known.
create or replace function projector.playbook_of(playbook_ranked text[]) returns text
    language sql immutable parallel safe
    return coalesce(playbook_ranked[3], '');
