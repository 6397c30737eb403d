-- Frames in the order they came, found by an index. Clustered by machine they were a tree of a few frames a page,
-- whose inner pages held frames too: every insertion compared itself with whole frames on its way down, and the frames
-- of one commit lay on as many pages as there were machines.

create table frame_by_arrival (
    id         integer primary key,
    machine_id integer not null,
    time       integer not null,
    layout_id  integer not null,
    data       blob    not null
) strict;

insert into frame_by_arrival (machine_id, time, layout_id, data)
select machine_id, time, layout_id, data from frame order by time;

drop table frame;

alter table frame_by_arrival rename to frame;

create unique index frame_by_place on frame (machine_id, time, layout_id);
