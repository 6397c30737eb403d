-- What only the owner of the tables may do, for processes that run as somebody else.

-- Chunks go as a whole; only the owner may drop them. Returns how many there were.
create function drop_stretch(hypertable text, first timestamptz, behind timestamptz) returns bigint
    language sql
    security definer
    -- The schema that Muster has, whoever calls.
    set search_path from current
as $$
    select count(*) from drop_chunks(
        format('%I.%I', current_schema(), hypertable)::regclass,
        older_than => behind, newer_than => first)
$$;

revoke execute on function drop_stretch(text, timestamptz, timestamptz) from public;
