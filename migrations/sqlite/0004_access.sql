-- Who may do what. Nothing here is a secret that could be used: tokens are kept as their SHA-256 (they are
-- random, so there is nothing to guess), passwords as argon2id.
--
--   select name, may, datetime(used / 1000, 'unixepoch') from credential where kind = 'token';

create table credential (
    id         text    not null primary key,
    -- token or session.
    kind       text    not null,
    -- SHA-256 of the secret.
    hash       blob    not null,
    -- Of a session: its account.
    name       text    not null,
    -- read, admin, report:any, report:first or report: and the id of a machine.
    may        text    not null,
    created    integer not null,
    created_by text    not null,
    -- Null when it stays until it is revoked.
    expires    integer,
    -- Roughly; null when it was never used.
    used       integer
) strict, without rowid;

create unique index credential_hash on credential (hash);

-- Who may log in.
create table account (
    name     text    not null primary key,
    -- As the PHC string format has it.
    password text    not null,
    -- read or admin.
    may      text    not null,
    updated  integer not null
) strict, without rowid;
