-- The version in a ranked playbook (execution_facts.playbook_ranked). Null without one.
create or replace function projector.version_of(playbook_ranked text[]) returns text
    language sql immutable parallel safe
    return nullif(playbook_ranked[4], '');
