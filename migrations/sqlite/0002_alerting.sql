-- Alerts: what people ask to be told about, what is going on, and what has to be told.
--
--   select name, document from alert_setting where kind = 'rule';
--   select datetime(started / 1000, 'unixepoch'), rule_name, host_name, level, summary from incident order by started desc;

-- Rules, channels, silences: named documents with a revision. Secrets of channels are in their documents.
create table alert_setting (
    -- rule, channel, silence or mark.
    kind       text    not null,
    id         text    not null,
    revision   integer not null,
    name       text    not null,
    -- Where it came from: default, rpc or file.
    origin     text    not null,
    -- JSON.
    document   text    not null,
    updated    integer not null,
    updated_by text    not null,
    primary key (kind, id)
) strict, without rowid;

create unique index alert_setting_name on alert_setting (kind, name);

-- Who changed what, when, from what to what. Secrets are left out.
create table alert_audit (
    id       integer primary key,
    time     integer not null,
    actor    text    not null,
    -- create, update or delete.
    action   text    not null,
    kind     text    not null,
    subject  text    not null,
    before   text    not null,
    after    text    not null
) strict;

-- Alerts that are neither inactive nor resolved, as they are needed to go on after a restart.
create table alert_state (
    id       text not null primary key,
    -- JSON.
    document text not null
) strict, without rowid;

-- One row each time an alert fires, kept as history.
create table incident (
    id              text    not null primary key,
    alert           text    not null,
    rule            text    not null,
    rule_name       text    not null,
    -- 32 lower-case hexadecimal digits.
    machine         text    not null,
    host_name       text    not null,
    -- Empty for rules about the machine itself.
    metric          text    not null,
    -- JSON object of text.
    labels          text    not null,
    -- warning or critical.
    level           text    not null,
    started         integer not null,
    -- Null while it goes on.
    resolved        integer,
    -- Null when there was no value.
    peak            real,
    summary         text    not null,
    -- Why it ended.
    cause           text    not null,
    acknowledged    integer,
    acknowledged_by text    not null,
    comment         text    not null
) strict, without rowid;

create index incident_started on incident (started);
create index incident_open on incident (started) where resolved is null;

-- What has to be told: written with the change that causes it, gone when it was told.
create table notice (
    id        integer primary key autoincrement,
    channel   text    not null,
    grouping  text    not null,
    incident  text    not null,
    -- firing, escalated, repeated or resolved.
    kind      text    not null,
    -- JSON.
    document  text    not null,
    created   integer not null,
    -- Not to be told before this, so that others can join it.
    due       integer not null
) strict;

create index notice_channel on notice (channel, id);

-- What could not be told, and why.
create table dead_notice (
    id        integer primary key,
    channel   text    not null,
    grouping  text    not null,
    incident  text    not null,
    kind      text    not null,
    document  text    not null,
    created   integer not null,
    reason    text    not null,
    died      integer not null
) strict;
