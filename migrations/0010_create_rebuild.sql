-- migrate:up

-- A projection that is built anew beside the live one (projector rebuild). Its tables, and copies of
-- the functions that feed them, stand in the schema projector_next for as long; one at a time.
create table projector.rebuild (
    unit       text        not null,
    state      text        not null,
    version    text        not null,
    cut_batch  bigint      not null,
    events     bigint      not null,
    folded     bigint      not null default 0,
    started_at timestamptz not null default now(),
    changed_at timestamptz not null default now(),
    one_row    boolean     not null default true,
    constraint rebuild_pkey primary key (one_row),
    constraint rebuild_one_row check (one_row),
    constraint rebuild_state check (state in ('filling', 'filled', 'swapped'))
);

comment on table projector.rebuild is
    'filling: the new tables are fed by every writer, and the log is being folded into them. '
    'filled: they are as the log says. swapped: they are the live ones, and the old ones are still '
    'fed, so that swapping back is true.';
comment on column projector.rebuild.version is
    'The newest migration when it began: a rebuild of other functions begins again.';
comment on column projector.rebuild.cut_batch is
    'Rows up to this batch_id are folded; those of later batches come by the triggers.';

insert into migrations.applied (version) values ('0010') on conflict do nothing;

-- migrate:down
