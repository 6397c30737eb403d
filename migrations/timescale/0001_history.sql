-- The whole schema of Muster in TimescaleDB: the register of machines, and the history of what they sent.
--
-- Look around through the views at the end: samples, samples_1m and samples_1h.
--   select * from samples_1m where machine = 'web-1' and metric = 'system.cpu.utilization'
--   order by time desc limit 10;
--
-- Values live in three forms. They are written by time (frame), then sealed for reading by series
-- (block), then rolled up (tier_minute, tier_hour). Blocks are Muster's own form; everything else is plain.
-- A text that holds the character U+0000, which PostgreSQL cannot keep, has it as U+F8FF followed by 0.

------------------------------------------------------------------------------------------------
-- Register: what is known of machines beside their values.

create table register (
    -- 32 lower-case hexadecimal digits.
    machine           text        not null primary key,
    host_name         text        not null,
    os_type           text        not null,
    os_description    text        not null,
    kernel_version    text        not null,
    arch              text        not null,
    cpu_model         text        not null,
    logical_cpus      bigint      not null,
    physical_cpus     bigint      not null,
    memory_bytes      bigint      not null,
    swap_bytes        bigint      not null,
    boot_time         timestamptz not null,
    addresses         text[]      not null,
    virtualization    text        not null,
    collector_version text        not null,
    labels            jsonb       not null,
    first_seen        timestamptz not null,
    last_seen         timestamptz not null,
    -- online, stale, asleep, offline or stopped.
    status            text        not null,
    status_since      timestamptz not null
);

------------------------------------------------------------------------------------------------
-- Catalogue: who sent, and what the columns of values mean.

create table machine (
    id   bigint generated always as identity primary key,
    -- 32 lower-case hexadecimal digits; null once the machine was removed and its rows wait to be deleted.
    name text constraint machine_name_is_unique unique
);

-- One metric with its labels on one machine.
create table series (
    id         bigint generated always as identity primary key,
    machine_id bigint not null,
    name       text   not null,
    labels     jsonb  not null,
    -- gauge or counter.
    kind       text   not null,
    unit       text   not null
);

-- Labels may be longer than what fits an index.
create unique index series_by_name on series (name, machine_id, md5(labels::text), kind, unit);
create index series_by_machine on series (machine_id);

-- An ordered list of series that came in frames, named by the hash of its content.
create table layout (
    id   bigint generated always as identity primary key,
    -- 32 lower-case hexadecimal digits.
    hash text not null constraint layout_hash_is_unique unique
);

-- Which series of a machine stands at which place of a layout, from 0.
create table placement (
    machine_id bigint  not null,
    layout_id  bigint  not null,
    position   integer not null,
    series_id  bigint  not null,
    primary key (machine_id, layout_id, position)
);

create index placement_by_series on placement (series_id);

-- Which items of a machine's spool are durable; written in the transaction that makes them so.
create table acknowledged (
    machine_id bigint      not null,
    -- 64 bits, shown as signed.
    epoch      bigint      not null,
    -- "1-40 42 50-60"
    seqs       text        not null,
    updated    timestamptz not null,
    primary key (machine_id, epoch)
);

------------------------------------------------------------------------------------------------
-- Values.

-- One instant's values for one layout, as they came; NaN where there was none. Of two with one machine,
-- layout and time, the one with the greater id came later and counts.
create table frame (
    time       timestamptz        not null,
    machine_id bigint             not null,
    layout_id  bigint             not null,
    id         bigint generated always as identity,
    data       double precision[] not null
);

-- Five times quicker than PostgreSQL's own compression, which is kept where the server was built without.
do $$ begin
    alter table frame alter column data set compression lz4;
exception when feature_not_supported then null;
end $$;

select create_hypertable('frame', 'time',
    chunk_time_interval => interval '1 hour', create_default_indexes => false);
create index frame_by_machine on frame (machine_id, time);

-- A sealed stretch of time: a group of neighbouring columns of a layout, each compressed, with a directory.
-- Where blocks overlap in time, the one with the greater id came later and wins.
create table block (
    -- Hour that contains all its times.
    hour       timestamptz not null,
    machine_id bigint      not null,
    layout_id  bigint      not null,
    -- Which group of columns, from 0.
    part       integer     not null,
    id         bigint generated always as identity,
    -- Times of its first and last instant.
    first      timestamptz not null,
    last       timestamptz not null,
    data       bytea       not null
);

-- It is compressed already.
alter table block alter column data set storage external;
select create_hypertable('block', 'hour',
    chunk_time_interval => interval '1 hour', create_default_indexes => false);
create index block_by_place on block (machine_id, layout_id, part, hour);

-- Blocks that could not be read when they were to be merged. Kept until raw values expire, for whoever looks.
create table damaged_block (
    id         bigint      not null primary key,
    machine_id bigint      not null,
    layout_id  bigint      not null,
    part       integer     not null,
    hour       timestamptz not null,
    reason     text        not null,
    data       bytea       not null
);

-- Hours of a machine whose blocks are not merged and rolled up yet.
create table open_hour (
    machine_id bigint      not null,
    hour       timestamptz not null,
    -- Not to be closed before this time.
    due        timestamptz not null,
    primary key (machine_id, hour)
);

create index open_hour_by_due on open_hour (due);

-- One series, one hour: its windows of one minute, side by side in arrays. Increases are those of counters,
-- resets handled, and null for gauges.
create table tier_minute (
    hour      timestamptz        not null,
    series_id bigint             not null,
    -- Minutes after the hour.
    minutes   smallint[]         not null,
    counts    integer[]          not null,
    firsts    double precision[] not null,
    lasts     double precision[] not null,
    mins      double precision[] not null,
    maxs      double precision[] not null,
    sums      double precision[] not null,
    increases double precision[]
);

select create_hypertable('tier_minute', 'hour',
    chunk_time_interval => interval '1 day', create_default_indexes => false);
create index tier_minute_by_series on tier_minute (series_id, hour);

-- One series, one day (UTC): its windows of one hour.
create table tier_hour (
    day       timestamptz        not null,
    series_id bigint             not null,
    -- Hours after midnight.
    hours     smallint[]         not null,
    counts    integer[]          not null,
    firsts    double precision[] not null,
    lasts     double precision[] not null,
    mins      double precision[] not null,
    maxs      double precision[] not null,
    sums      double precision[] not null,
    increases double precision[]
);

select create_hypertable('tier_hour', 'day',
    chunk_time_interval => interval '7 days', create_default_indexes => false);
create index tier_hour_by_series on tier_hour (series_id, day);

-- Single facts about this history, by name.
create table fact (
    name  text        not null primary key,
    value timestamptz not null
);

------------------------------------------------------------------------------------------------
-- Everything else that happened.

-- One process report as it came.
create table process_report (
    time       timestamptz not null,
    machine_id bigint      not null,
    id         bigint generated always as identity,
    data       bytea       not null
);

select create_hypertable('process_report', 'time',
    chunk_time_interval => interval '1 hour', create_default_indexes => false);
create index process_report_by_machine on process_report (machine_id, time);

-- Process reports of a closed stretch, compressed together.
create table process_block (
    last       timestamptz not null,
    first      timestamptz not null,
    machine_id bigint      not null,
    id         bigint generated always as identity,
    data       bytea       not null
);

alter table process_block alter column data set storage external;
select create_hypertable('process_block', 'last',
    chunk_time_interval => interval '6 hours', create_default_indexes => false);
create index process_block_by_machine on process_block (machine_id, last);

create table event (
    time       timestamptz not null,
    machine_id bigint      not null,
    id         bigint generated always as identity,
    kind       text        not null,
    detail     text        not null,
    attributes jsonb       not null
);

select create_hypertable('event', 'time',
    chunk_time_interval => interval '1 day', create_default_indexes => false);
create index event_by_machine on event (machine_id, time);

-- Items that will never arrive.
create table gap (
    -- When it is shown: the time of its last lost item, or of its receipt where that is not known.
    time       timestamptz not null,
    machine_id bigint      not null,
    id         bigint generated always as identity,
    received   timestamptz not null,
    -- 64 bits, shown as signed.
    first_seq  bigint      not null,
    last_seq   bigint      not null,
    -- Times of the first and last lost item, where known.
    first_time timestamptz,
    last_time  timestamptz,
    reason     text        not null,
    detail     text        not null
);

select create_hypertable('gap', 'time',
    chunk_time_interval => interval '1 day', create_default_indexes => false);
create index gap_by_machine on gap (machine_id, time);

create table log (
    time       timestamptz not null,
    machine_id bigint      not null,
    id         bigint generated always as identity,
    -- OpenTelemetry severity number, 0 to 24.
    severity   smallint    not null,
    service    text        not null,
    source     text        not null,
    body       text        not null,
    -- The body was longer and was cut.
    truncated  boolean     not null,
    attributes jsonb       not null
);

select create_hypertable('log', 'time',
    chunk_time_interval => interval '1 hour', create_default_indexes => false);
create index log_by_machine on log (machine_id, time);

------------------------------------------------------------------------------------------------
-- Views for people and for Grafana. `machine` is the host name.

-- Values as they came, as long as they are not sealed: the last ten to twenty minutes.
create view samples as
select frame.time, register.host_name as machine, series.name as metric, series.labels,
    frame.data[placement.position + 1] as value, series.unit, machine.name as machine_id
from placement
join series on series.id = placement.series_id
join machine on machine.id = placement.machine_id
join register on register.machine = machine.name
join frame on frame.machine_id = placement.machine_id and frame.layout_id = placement.layout_id
where frame.data[placement.position + 1] <> 'NaN';

-- One row per minute, of hours that are over. `increase` is that of counters.
create view samples_1m as
select tier_minute.hour + window_minutes.minute * interval '1 minute' as time,
    register.host_name as machine, series.name as metric, series.labels,
    window_minutes.sum / window_minutes.count as mean, window_minutes.min, window_minutes.max,
    window_minutes.last, window_minutes.increase, window_minutes.count, series.unit,
    machine.name as machine_id
from series
join machine on machine.id = series.machine_id
join register on register.machine = machine.name
join tier_minute on tier_minute.series_id = series.id
cross join lateral unnest(minutes, counts, lasts, mins, maxs, sums, increases)
    as window_minutes (minute, count, last, min, max, sum, increase);

-- One row per hour, of hours that are over.
create view samples_1h as
select tier_hour.day + window_hours.hour * interval '1 hour' as time,
    register.host_name as machine, series.name as metric, series.labels,
    window_hours.sum / window_hours.count as mean, window_hours.min, window_hours.max,
    window_hours.last, window_hours.increase, window_hours.count, series.unit,
    machine.name as machine_id
from series
join machine on machine.id = series.machine_id
join register on register.machine = machine.name
join tier_hour on tier_hour.series_id = series.id
cross join lateral unnest(hours, counts, lasts, mins, maxs, sums, increases)
    as window_hours (hour, count, last, min, max, sum, increase);
