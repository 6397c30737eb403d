//! Watches what machines send and tells people when something is wrong, once.
//!
//! The deciding is pure: [`rule`] is what people ask for, [`lifecycle`] the life of one alert, [`engine`]
//! all of it together, given frames and the time. Around it a thin shell subscribes to the event stream,
//! keeps alert state in the store, and sends notifications.
//!
//! Knows nothing of the other services. Start with [`rule::Spec`], then [`engine::Engine`].

pub mod alert;
pub mod engine;
pub mod lifecycle;
pub mod rule;
pub mod template;
