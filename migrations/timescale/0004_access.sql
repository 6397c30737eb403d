-- Who may do what. Nothing here is a secret that could be used: tokens are kept as their SHA-256 (they are
-- random, so there is nothing to guess), passwords as argon2id.
--
--   select name, may, used from credential where kind = 'token';

create table credential (
    id         text        not null primary key,
    -- token or session.
    kind       text        not null,
    -- SHA-256 of the secret.
    hash       bytea       not null constraint credential_hash_is_unique unique,
    -- Of a session: its account.
    name       text        not null,
    -- read, admin, report:any, report:first or report: and the id of a machine.
    may        text        not null,
    created    timestamptz not null,
    created_by text        not null,
    -- Null when it stays until it is revoked.
    expires    timestamptz,
    -- Roughly; null when it was never used.
    used       timestamptz
);

-- Who may log in.
create table account (
    name     text        not null primary key,
    -- As the PHC string format has it.
    password text        not null,
    -- read or admin.
    may      text        not null,
    updated  timestamptz not null
);
