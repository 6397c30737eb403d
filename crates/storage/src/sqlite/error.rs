//! What SQLite's errors mean to callers.

use std::path::Path;

use sqlx::Error;

use super::STORE;
use crate::StorageError;

/// Primary result codes, <https://www.sqlite.org/rescode.html>.
mod code {
    pub(super) const PERM: u32 = 3;
    pub(super) const READONLY: u32 = 8;
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const FULL: u32 = 13;
    pub(super) const CANTOPEN: u32 = 14;
    pub(super) const TOOBIG: u32 = 18;
    pub(super) const CONSTRAINT: u32 = 19;
    pub(super) const MISMATCH: u32 = 20;
    pub(super) const NOTADB: u32 = 26;
}

fn primary_code(error: &Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

impl From<Error> for StorageError {
    fn from(error: Error) -> Self {
        let reason = match primary_code(&error) {
            Some(code::FULL) => "its disk is full".to_owned(),
            _ => error.to_string(),
        };
        match (primary_code(&error), &error) {
            (Some(code::CORRUPT | code::NOTADB), _)
            | (None, Error::ColumnDecode { .. } | Error::Decode(_)) => {
                Self::Corrupt { store: STORE, reason }
            }
            // These very values are never taken; repeating them would hold up everybody else's.
            (Some(code::TOOBIG | code::CONSTRAINT | code::MISMATCH), _) => {
                Self::Invalid { store: STORE, reason }
            }
            _ => Self::Unavailable { store: STORE, reason },
        }
    }
}

pub(super) fn opening(path: &Path, error: Error) -> StorageError {
    let (reason, hint) = match primary_code(&error) {
        Some(code::CANTOPEN | code::PERM | code::READONLY) => (
            "it cannot be created or written".to_owned(),
            "check that its directory exists and that this user may write there, or choose another with --data-dir",
        ),
        Some(code::CORRUPT | code::NOTADB) => (
            "it is not a database, or is damaged".to_owned(),
            "move the file away to start with an empty history, or restore it from a backup",
        ),
        Some(code::FULL) => ("its disk is full".to_owned(), "free some space on that disk"),
        _ => (error.to_string(), "check that no other program holds the file"),
    };
    StorageError::CannotOpen { what: path.display().to_string(), reason, hint }
}

/// Another version of Muster wrote the file.
pub(super) fn version(path: &Path, reason: String) -> StorageError {
    StorageError::CannotOpen {
        what: path.display().to_string(),
        reason,
        hint: "use the version of Muster that wrote it or a newer one, or choose another directory with --data-dir",
    }
}
