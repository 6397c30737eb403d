-- Log events in compressed blocks with filters of their words, and errors in groups. Whatever was in the table of
-- single events before came from no collector: none sent any.

drop table log;

-- Events that arrived together, or blocks joined, sorted by time. The blob is Muster's own: see
-- docs/reference/logs.md for how to search.
create table log_block (
    -- Never used again: it numbers the events of the block.
    id     integer primary key autoincrement,
    -- Times of its first and last event.
    first  integer not null,
    last   integer not null,
    events integer not null,
    -- 1 when it has filters; 0 when it waits to be joined with others.
    full   integer not null,
    data   blob    not null
) strict;

create index log_block_by_time on log_block (last, id, first, full);
create index log_block_to_join on log_block (last, id) where full = 0;

-- Which words a full block may have, cut into parts by the hashes of the words.
create table log_filter (
    part     integer not null,
    block_id integer not null,
    data     blob    not null,
    primary key (part, block_id)
) strict, without rowid;

-- Machines that were removed: their events with smaller numbers are not shown, and go with their blocks.
create table log_removed (
    -- 32 lower-case hexadecimal digits.
    machine text    not null primary key,
    before  integer not null
) strict, without rowid;

-- Errors whose texts differ only in numbers, ids, paths and addresses, by service.
create table error_group (
    -- Fingerprint of service and template; 64 bits, shown as signed.
    id         integer primary key,
    service    text    not null,
    template   text    not null,
    -- Body of the first of them.
    example    text    not null,
    -- OpenTelemetry severity number of the highest.
    severity   integer not null,
    first_seen integer not null,
    last_seen  integer not null,
    count      integer not null
) strict;

create index error_group_by_time on error_group (last_seen);

create table error_minute (
    minute   integer not null,
    group_id integer not null,
    -- 32 lower-case hexadecimal digits.
    machine  text    not null,
    count    integer not null,
    primary key (minute, group_id, machine)
) strict, without rowid;
