//! Pages and their fragments. A fragment is a template that its page includes, so what htmx fetches
//! later cannot differ from what was there first.

mod add;
pub(crate) mod charts;
mod fleet;
mod health;
mod machine;
mod not_found;
mod page;

pub(crate) use add::add;
pub(crate) use fleet::fleet;
pub(crate) use health::health;
pub(crate) use machine::{events, machine, processes};
pub(crate) use not_found::not_found;
pub(crate) use page::Page;
