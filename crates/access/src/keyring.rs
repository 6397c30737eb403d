//! What every request passes: from a secret to its caller, without a store where that can be.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{Caller, UnixMillis};
use storage::credentials::{Credential, CredentialKind, Hash};
use storage::{Credentials, StorageError};
use tokio_util::sync::CancellationToken;

use crate::secret::{self, SECRET_BYTES_MAX};

/// How soon another process's revocation is noticed.
const REFRESH_EVERY: Duration = Duration::from_secs(2);
/// Uses are written down this often, and to this precision.
const USES_EVERY: Duration = Duration::from_secs(60);

/// All credentials, in memory: a store that is down locks nobody out who was in.
#[derive(Debug)]
pub(crate) struct Keyring {
    store: Arc<dyn Credentials>,
    /// From the configuration: never in the store.
    preset: Vec<Credential>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<Hash, Credential>,
    /// Not written down yet, by id.
    uses: HashMap<String, UnixMillis>,
}

impl Keyring {
    pub(crate) async fn open(
        store: Arc<dyn Credentials>,
        preset: Vec<Credential>,
    ) -> Result<Self, StorageError> {
        let keyring = Self { store, preset, state: Mutex::default() };
        keyring.refresh().await?;
        Ok(keyring)
    }

    /// Whose it is; `None` when it is nobody's, or expired.
    pub(crate) async fn identify(
        &self,
        secret: &str,
        now: UnixMillis,
    ) -> Result<Option<Caller>, StorageError> {
        if secret.is_empty() || secret.len() > SECRET_BYTES_MAX {
            return Ok(None);
        }
        // The secrets themselves are never compared: where a difference of hashes begins tells nothing.
        let hash = secret::hash(secret);
        let known = self.lock().known.get(&hash).cloned();
        let credential = match known {
            Some(credential) => credential,
            // Made by another process a moment ago. What does not look like ours needs no look.
            None if secret.starts_with(secret::PREFIX) => {
                let Some(found) = self.store.find(&hash).await? else { return Ok(None) };
                self.lock().known.insert(hash, found.clone());
                found
            }
            None => return Ok(None),
        };
        if credential.expires.is_some_and(|expires| expires <= now) {
            return Ok(None);
        }
        let Credential { id, name, grant, .. } = credential;
        self.lock().uses.insert(id.clone(), now);
        Ok(Some(Caller { id, name, grant }))
    }

    pub(crate) async fn add(&self, credential: Credential) -> Result<(), StorageError> {
        self.store.add(credential.clone()).await?;
        self.lock().known.insert(credential.hash, credential);
        Ok(())
    }

    /// False when there is none.
    pub(crate) async fn remove(&self, id: &str) -> Result<bool, StorageError> {
        let removed = self.store.remove(id).await?;
        self.lock().known.retain(|_, credential| credential.id != id);
        Ok(removed)
    }

    /// Ends the session with this hash; a token is left alone.
    pub(crate) async fn end_session(&self, hash: &Hash) -> Result<(), StorageError> {
        match self.store.find(hash).await? {
            Some(found) if found.kind == CredentialKind::Session => {
                self.remove(&found.id).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// All that are in force, with those of the configuration.
    pub(crate) async fn all(&self) -> Result<Vec<Credential>, StorageError> {
        Ok(self.preset.iter().cloned().chain(self.store.all().await?).collect())
    }

    /// Takes over what other processes changed.
    async fn refresh(&self) -> Result<(), StorageError> {
        let all = self.all().await?;
        self.lock().known = all.into_iter().map(|c| (c.hash, c)).collect();
        Ok(())
    }

    async fn write_uses(&self, now: UnixMillis) -> Result<(), StorageError> {
        let uses: Vec<_> = std::mem::take(&mut self.lock().uses).into_iter().collect();
        if !uses.is_empty() {
            self.store.used(&uses).await?;
        }
        self.store.prune(now).await
    }

    /// Keeps the keyring as the store has it, until the end.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut written = tokio::time::Instant::now();
        let mut failing = false;
        while stop.run_until_cancelled(tokio::time::sleep(REFRESH_EVERY)).await.is_some() {
            let mut outcome = self.refresh().await;
            if outcome.is_ok() && written.elapsed() >= USES_EVERY {
                written = tokio::time::Instant::now();
                outcome = self.write_uses(crate::access::now()).await;
            }
            if let Err(error) = &outcome
                && !failing
            {
                tracing::warn!(%error, "tokens are as they were: the store does not answer");
            }
            failing = outcome.is_err();
        }
        // When a token was used last is no reason to hold up the end.
        let last = self.write_uses(crate::access::now());
        let _ = tokio::time::timeout(Duration::from_secs(1), last).await;
    }

    /// Both maps are whole whenever the lock is free.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
