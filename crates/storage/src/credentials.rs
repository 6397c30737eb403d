//! Who may do what: tokens, sessions and accounts, by their hashes.

use std::fmt;

use async_trait::async_trait;
use model::{Grant, MachineId, UnixMillis};

use crate::StorageError;

mod sqlite;
mod timescale;

pub use sqlite::SqliteCredentials;
pub use timescale::TimescaleCredentials;

/// SHA-256 of a secret.
pub type Hash = [u8; 32];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// Made once, carried by a program.
    Token,
    /// Made by logging in, carried by a browser.
    Session,
}

impl CredentialKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Session => "session",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Token, Self::Session].into_iter().find(|kind| kind.name() == name)
    }
}

/// What its bearer may do.
#[derive(Clone, Debug, PartialEq)]
pub struct Credential {
    /// Names it without giving it away.
    pub id: String,
    pub kind: CredentialKind,
    pub hash: Hash,
    /// What people call it; of a session, its account.
    pub name: String,
    pub grant: Grant,
    pub created: UnixMillis,
    pub created_by: String,
    pub expires: Option<UnixMillis>,
    /// Roughly: not written with every use.
    pub used: Option<UnixMillis>,
}

/// Somebody who may log in.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    pub name: String,
    /// As the PHC string format has it.
    pub password: String,
    pub grant: Grant,
    pub updated: UnixMillis,
}

/// Port: tokens, sessions, accounts. A call that returned took effect durably.
#[async_trait]
pub trait Credentials: Send + Sync + fmt::Debug {
    /// Keeps a new one. Its id and hash are random, so that another has them cannot be.
    async fn add(&self, credential: Credential) -> Result<(), StorageError>;

    /// All, by age.
    async fn all(&self) -> Result<Vec<Credential>, StorageError>;

    async fn find(&self, hash: &Hash) -> Result<Option<Credential>, StorageError>;

    /// False when there is none.
    async fn remove(&self, id: &str) -> Result<bool, StorageError>;

    /// Makes a token of `Claim::First` that of this machine. True when it is the machine's now, whoever
    /// made it so; of several at once, one machine wins.
    async fn bind(&self, id: &str, machine: MachineId) -> Result<bool, StorageError>;

    /// Remembers that these were used.
    async fn used(&self, uses: &[(String, UnixMillis)]) -> Result<(), StorageError>;

    /// Forgets what expired before `before`.
    async fn prune(&self, before: UnixMillis) -> Result<(), StorageError>;

    /// All, by name.
    async fn accounts(&self) -> Result<Vec<Account>, StorageError>;

    /// Keeps a new account. False when the name is taken.
    async fn add_account(&self, account: Account) -> Result<bool, StorageError>;

    /// Keeps the account, new or changed, and ends its sessions.
    async fn put_account(&self, account: Account) -> Result<(), StorageError>;

    /// Removes the account and ends its sessions. False when there is none.
    async fn remove_account(&self, name: &str) -> Result<bool, StorageError>;
}
