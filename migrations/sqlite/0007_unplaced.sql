-- Layouts of machines whose series have no rows yet. When a large fleet appears at once, its first values are not
-- kept waiting for some rows a series: these are made soon after, in small steps.

create table unplaced (
    machine_id integer not null,
    layout_id  integer not null,
    primary key (machine_id, layout_id)
) strict, without rowid;

create index unplaced_by_layout on unplaced (layout_id);

-- What these layouts list: a JSON array of [name, labels, kind, unit].
create table unplaced_layout (
    layout_id integer not null primary key,
    series    text    not null
) strict;
