//! Pages and their fragments. A fragment is a template that its page includes, so what htmx fetches
//! later cannot differ from what was there first.

mod add;
pub(crate) mod alerts;
mod badge;
pub(crate) mod charts;
mod containers;
mod events;
mod facts;
mod filesystems;
mod fleet;
mod health;
mod login;
pub(crate) mod logs;
mod machine;
mod not_found;
mod page;
mod processes;
mod tokens;
mod who;

pub(crate) use add::{add, add_with_token};
pub(crate) use containers::containers;
pub(crate) use events::events;
pub(crate) use facts::facts;
pub(crate) use filesystems::filesystems;
pub(crate) use fleet::fleet;
pub(crate) use health::{dead_event_discard, dead_event_retry, health};
pub(crate) use login::{log_in, log_out, login};
pub(crate) use machine::{machine, remove as machine_remove};
pub(crate) use not_found::not_found;
pub(crate) use page::Page;
pub(crate) use processes::processes;
pub(crate) use tokens::{create as token_create, revoke as token_revoke, tokens};
pub(crate) use who::who;
