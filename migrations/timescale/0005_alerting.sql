-- Alerts: what people ask to be told about, what is going on, and what has to be told. Several alert services
-- share it.
--
--   select name, document from alert_setting where kind = 'rule';
--   select started, rule_name, host_name, level, summary from incident order by started desc;

-- Rules, channels, silences: named documents with a revision. Secrets of channels are in their documents.
create table alert_setting (
    -- rule, channel, silence or mark.
    kind       text        not null,
    id         text        not null,
    revision   bigint      not null,
    name       text        not null,
    -- Where it came from: default, rpc or file.
    origin     text        not null,
    -- JSON, as it was written.
    document   text        not null,
    updated    timestamptz not null,
    updated_by text        not null,
    primary key (kind, id),
    constraint alert_setting_name_is_unique unique (kind, name)
);

-- Grows with every change of a setting. Changes queue for this one row, so that whoever saw a number saw
-- everything before it.
create table alert_edition (
    number bigint not null
);

insert into alert_edition (number) values (0);

-- Who changed what, when, from what to what. Secrets are left out.
create table alert_audit (
    id       bigint generated always as identity primary key,
    time     timestamptz not null,
    actor    text        not null,
    -- create, update or delete.
    action   text        not null,
    kind     text        not null,
    subject  text        not null,
    before   text        not null,
    after    text        not null
);

create index alert_audit_time on alert_audit (time);

-- Alerts that are neither inactive nor resolved, as they are needed to go on after a restart.
create table alert_state (
    id       text not null primary key,
    -- JSON, as it was written.
    document text not null
);

-- One row each time an alert fires, kept as history.
create table incident (
    id              text        not null primary key,
    alert           text        not null,
    rule            text        not null,
    rule_name       text        not null,
    -- 32 lower-case hexadecimal digits.
    machine         text        not null,
    host_name       text        not null,
    -- Empty for rules about the machine itself.
    metric          text        not null,
    labels          jsonb       not null,
    -- warning or critical.
    level           text        not null,
    started         timestamptz not null,
    -- Null while it goes on.
    resolved        timestamptz,
    -- Null when there was no value.
    peak            double precision,
    summary         text        not null,
    -- Why it ended.
    cause           text        not null,
    acknowledged    timestamptz,
    acknowledged_by text        not null,
    comment         text        not null
);

create index incident_started on incident (started);
create index incident_open on incident (started) where resolved is null;

-- What has to be told: written with the change that causes it, gone when it was told.
create table notice (
    id        bigint generated always as identity primary key,
    channel   text        not null,
    grouping  text        not null,
    incident  text        not null,
    -- firing, escalated, repeated or resolved.
    kind      text        not null,
    -- JSON, as it was written.
    document  text        not null,
    created   timestamptz not null,
    -- Not to be told before this, so that others can join it.
    due       timestamptz not null
);

create index notice_channel on notice (channel, id);

-- What could not be told, and why.
create table dead_notice (
    id        bigint generated always as identity primary key,
    channel   text        not null,
    grouping  text        not null,
    incident  text        not null,
    kind      text        not null,
    document  text        not null,
    created   timestamptz not null,
    reason    text        not null,
    died      timestamptz not null
);

create index dead_notice_channel on dead_notice (channel, id);

-- Alert services that share the work.
create table alert_service (
    id   text        not null primary key,
    seen timestamptz not null
);

-- Who does what: each shard of the machines is watched by one service, each channel is served by one.
create table alert_lease (
    -- shard or channel.
    kind  text        not null,
    -- The number of the shard, the id of the channel.
    id    text        not null,
    -- Null when nobody holds it.
    owner text,
    until timestamptz not null,
    -- Grows whenever it changes hands. What is written under an earlier one is refused.
    fence bigint      not null,
    -- The latest batch of changes that was written under this fence.
    batch bigint      not null,
    -- How a channel is doing, by its owner.
    note  text        not null,
    primary key (kind, id)
);

insert into alert_lease (kind, id, owner, until, fence, batch, note)
select 'shard', shard, null, 'epoch', 0, 0, '' from generate_series(0, 63) as shard;

-- What a service asks of the one that watches a shard; gone when it was done.
create table alert_errand (
    id       bigint generated always as identity primary key,
    shard    integer not null,
    -- JSON.
    document text    not null
);
