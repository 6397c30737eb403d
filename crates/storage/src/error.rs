//! What can go wrong in a store, as far as callers decide by it.

/// Why a store did not do what it was asked. Nothing of a failed call took effect, unless the method
/// says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The store does not answer, is busy or is full; the same call may succeed later.
    #[error("{store} is not available: {reason}")]
    Unavailable { store: &'static str, reason: String },
    /// What is stored cannot be read as what it should be.
    #[error("{store} holds something unreadable: {reason}")]
    Corrupt { store: &'static str, reason: String },
    /// The call broke the contract of the port; repeating it cannot help.
    #[error("{store} was asked for something impossible: {reason}")]
    Invalid { store: &'static str, reason: String },
    /// The store cannot be opened as it is; a person must look.
    #[error("cannot open {what}: {reason}\nhint: {hint}")]
    CannotOpen { what: String, reason: String, hint: &'static str },
}

impl StorageError {
    /// Whether repeating the call can help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
