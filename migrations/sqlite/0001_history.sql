-- The whole schema of a Muster file: the register of machines, and the history of what they sent.
--
-- To look around:   sqlite3 -readonly muster.db
--   select name, count(*) from series join machine on machine.id = series.machine_id group by name;
-- All times are milliseconds since 1970-01-01T00:00:00Z:
--   select datetime(time / 1000, 'unixepoch'), kind, detail from event order by time desc limit 20;
--
-- Values live in three forms. They are written by time (frame), then sealed for reading by series
-- (block), then rolled up (tier_minute, tier_hour). The blobs of these tables are Muster's own, each with
-- a version in front; everything else is plain.

------------------------------------------------------------------------------------------------
-- Register: what is known of machines beside their values.

create table register (
    -- 32 lower-case hexadecimal digits.
    machine           text    not null primary key,
    host_name         text    not null,
    os_type           text    not null,
    os_description    text    not null,
    kernel_version    text    not null,
    arch              text    not null,
    cpu_model         text    not null,
    logical_cpus      integer not null,
    physical_cpus     integer not null,
    memory_bytes      integer not null,
    swap_bytes        integer not null,
    boot_time         integer not null,
    -- JSON array of text.
    addresses         text    not null,
    virtualization    text    not null,
    collector_version text    not null,
    -- JSON object of text.
    labels            text    not null,
    first_seen        integer not null,
    last_seen         integer not null,
    -- online, stale, asleep, offline or stopped.
    status            text    not null,
    status_since      integer not null
) strict, without rowid;

------------------------------------------------------------------------------------------------
-- Catalogue: who sent, and what the columns of values mean.

create table machine (
    id   integer primary key,
    -- 32 lower-case hexadecimal digits; null once the machine was removed and its rows wait to be deleted.
    name text unique
) strict;

-- One metric with its labels on one machine.
create table series (
    id         integer primary key,
    machine_id integer not null,
    name       text    not null,
    -- JSON object of text, keys sorted.
    labels     text    not null,
    -- gauge or counter.
    kind       text    not null,
    unit       text    not null
) strict;

create unique index series_by_name on series (name, machine_id, labels, kind, unit);
create index series_by_machine on series (machine_id);

-- An ordered list of series that came in frames, named by the hash of its content.
create table layout (
    id   integer primary key,
    -- 32 lower-case hexadecimal digits.
    hash text not null unique
) strict;

-- Which series of a machine stands at which place of a layout, from 0.
create table placement (
    machine_id integer not null,
    layout_id  integer not null,
    position   integer not null,
    series_id  integer not null,
    primary key (machine_id, layout_id, position)
) strict, without rowid;

create index placement_by_series on placement (series_id);

-- Which items of a machine's spool are durable; written in the transaction that makes them so.
create table acknowledged (
    machine_id integer not null,
    -- 64 bits, shown as signed.
    epoch      integer not null,
    -- "1-40 42 50-60"
    seqs       text    not null,
    updated    integer not null,
    primary key (machine_id, epoch)
) strict, without rowid;

------------------------------------------------------------------------------------------------
-- Values.

-- One instant's values for one layout, as they came. Clustered by machine and time: what one machine
-- sends together is written together, and a sealed stretch is deleted as one range.
create table frame (
    machine_id integer not null,
    time       integer not null,
    layout_id  integer not null,
    data       blob    not null,
    primary key (machine_id, time, layout_id)
) strict, without rowid;

-- A sealed stretch of time: a group of neighbouring columns of a layout, each compressed, with a directory.
-- Where blocks overlap in time, the one with the greater id came later and wins.
create table block (
    id         integer primary key,
    machine_id integer not null,
    layout_id  integer not null,
    -- Which group of columns, from 0.
    part       integer not null,
    -- Hour that contains all its times, as its first millisecond.
    hour       integer not null,
    -- Times of its first and last instant.
    first      integer not null,
    last       integer not null,
    data       blob    not null
) strict;

create index block_by_place on block (machine_id, layout_id, part, hour);
create index block_by_hour on block (hour, machine_id);

-- Blocks that could not be read when they were to be merged. Kept until raw values expire, for whoever looks.
create table damaged_block (
    id         integer primary key,
    machine_id integer not null,
    layout_id  integer not null,
    part       integer not null,
    hour       integer not null,
    reason     text    not null,
    data       blob    not null
) strict;

-- Hours of a machine whose blocks are not merged and rolled up yet.
create table open_hour (
    machine_id integer not null,
    hour       integer not null,
    -- Not to be closed before this time.
    due        integer not null,
    primary key (machine_id, hour)
) strict, without rowid;

create index open_hour_by_due on open_hour (due);

-- One series, one hour: its windows of one minute.
create table tier_minute (
    series_id integer not null,
    hour      integer not null,
    data      blob    not null,
    primary key (series_id, hour)
) strict, without rowid;

-- One series, one day: its windows of one hour.
create table tier_hour (
    series_id integer not null,
    day       integer not null,
    data      blob    not null,
    primary key (series_id, day)
) strict, without rowid;

-- Days of a machine that have rows in a tier, so that expiry finds them: tier is minute or hour.
create table tier_day (
    tier       text    not null,
    day        integer not null,
    machine_id integer not null,
    primary key (tier, day, machine_id)
) strict, without rowid;

-- Single facts about this file, by name.
create table fact (
    name  text    not null primary key,
    value integer not null
) strict, without rowid;

------------------------------------------------------------------------------------------------
-- Everything else that happened.

-- One process report as it came.
create table process_report (
    machine_id integer not null,
    time       integer not null,
    data       blob    not null,
    primary key (machine_id, time)
) strict, without rowid;

-- Process reports of a closed stretch, compressed together.
create table process_block (
    id         integer primary key,
    machine_id integer not null,
    first      integer not null,
    last       integer not null,
    data       blob    not null
) strict;

create index process_block_by_time on process_block (machine_id, last);
create index process_block_by_age on process_block (last);

create table event (
    id         integer primary key,
    machine_id integer not null,
    time       integer not null,
    kind       text    not null,
    detail     text    not null,
    -- JSON object of text.
    attributes text    not null
) strict;

create index event_by_time on event (machine_id, time);
create index event_by_age on event (time);

-- Items that will never arrive.
create table gap (
    id         integer primary key,
    machine_id integer not null,
    received   integer not null,
    -- When it is shown: the time of its last lost item, or of its receipt where that is not known.
    time       integer not null,
    first_seq  integer not null,
    last_seq   integer not null,
    -- Times of the first and last lost item, where known.
    first_time integer,
    last_time  integer,
    reason     text    not null,
    detail     text    not null
) strict;

create index gap_by_time on gap (machine_id, time);
create index gap_by_age on gap (time);

create table log (
    id         integer primary key,
    machine_id integer not null,
    time       integer not null,
    -- OpenTelemetry severity number, 0 to 24.
    severity   integer not null,
    service    text    not null,
    source     text    not null,
    body       text    not null,
    -- 1 when the body was longer and was cut.
    truncated  integer not null,
    -- JSON object of text.
    attributes text    not null
) strict;

create index log_by_time on log (machine_id, time);
create index log_by_age on log (time);
