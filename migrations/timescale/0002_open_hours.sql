-- An hour that is opened again after others lost their raw values must still be known as one that has its own:
-- closing it replaces what the tiers hold, and does not add to it.

-- Whether all raw values that the tiers were made from are kept.
alter table open_hour add column complete boolean not null default true;

update open_hour set complete = false
where hour < (select value from fact where name = 'raw_expired_before');
