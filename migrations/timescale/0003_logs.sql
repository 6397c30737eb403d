-- Log events in compressed blocks with filters of their words, and errors in groups. Whatever was in the table of
-- single events before came from no collector: none sent any.

drop table log;

-- Events that arrived together, or blocks joined, sorted by time.
create table log_block (
    -- Times of its last and first event.
    last   timestamptz not null,
    first  timestamptz not null,
    -- Numbers the events of the block.
    id     bigint generated always as identity,
    events bigint      not null,
    -- It has filters; else it waits to be joined with others.
    "full" boolean     not null,
    data   bytea       not null
);

alter table log_block alter column data set storage external;
select create_hypertable('log_block', 'last',
    chunk_time_interval => interval '2 hours', create_default_indexes => false);
create index log_block_by_time on log_block (last, id);
create index log_block_by_id on log_block (id);
create index log_block_to_join on log_block (last, id) where not "full";

-- Which words a full block may have, cut into parts by the hashes of the words.
create table log_filter (
    -- Of the block.
    last     timestamptz not null,
    block_id bigint      not null,
    part     smallint    not null,
    data     bytea       not null
);

alter table log_filter alter column data set storage external;
select create_hypertable('log_filter', 'last',
    chunk_time_interval => interval '2 hours', create_default_indexes => false);
create index log_filter_by_block on log_filter (block_id, part);

-- Machines that were removed: their events with smaller numbers are not shown, and go with their blocks.
create table log_removed (
    -- 32 lower-case hexadecimal digits.
    machine text   not null primary key,
    before  bigint not null
);

-- Errors whose texts differ only in numbers, ids, paths and addresses, by service.
create table error_group (
    -- Fingerprint of service and template; 64 bits, shown as signed.
    id         bigint      not null primary key,
    service    text        not null,
    template   text        not null,
    -- Body of the first of them.
    example    text        not null,
    -- OpenTelemetry severity number of the highest.
    severity   smallint    not null,
    first_seen timestamptz not null,
    last_seen  timestamptz not null,
    count      bigint      not null
);

create index error_group_by_time on error_group (last_seen);

create table error_minute (
    minute   timestamptz not null,
    group_id bigint      not null,
    -- 32 lower-case hexadecimal digits.
    machine  text        not null,
    count    bigint      not null,
    primary key (minute, group_id, machine)
);
