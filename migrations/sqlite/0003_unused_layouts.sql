-- Layouts of a machine that are in use, so that those that are not can be forgotten: every container that comes
-- or goes makes a new layout of all of them.

create table placed (
    machine_id integer not null,
    layout_id  integer not null,
    -- When it was last placed or sealed.
    used       integer not null,
    primary key (machine_id, layout_id)
) strict, without rowid;

create index placed_by_use on placed (used);
create index placed_by_layout on placed (layout_id);

insert into placed (machine_id, layout_id, used)
select distinct machine_id, layout_id, 0 from placement;
