//! Logging in: names and passwords, and how often they may be tried.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use storage::Credentials;
use storage::credentials::Account;
use tokio::sync::Semaphore;
use tonic::Status;

use crate::limiter::Limiter;

/// Each takes 19 MB and tens of milliseconds, by design.
const AT_ONCE_MAX: usize = 2;
/// Behind those, so many may wait.
const WAITING_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 120;
const PASSWORD_BYTES_MAX: usize = 1024;

/// The door: counts who knocks, and checks who they are.
#[derive(Debug)]
pub(crate) struct Door {
    store: Arc<dyn Credentials>,
    by_address: Limiter,
    by_name: Limiter,
    waiting: Semaphore,
    working: Arc<Semaphore>,
    /// Of nobody's password: a name that does not exist takes as long as one that does.
    decoy: String,
}

impl Door {
    pub(crate) async fn open(store: Arc<dyn Credentials>) -> anyhow::Result<Self> {
        let decoy = hash(crate::secret::password()?).await?;
        Ok(Self {
            store,
            by_address: Limiter::new(10, Duration::from_secs(30)),
            // More than one address may use up: nobody is locked out by one other.
            by_name: Limiter::new(50, Duration::from_secs(10)),
            waiting: Semaphore::new(WAITING_MAX),
            working: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            decoy,
        })
    }

    /// The account, when the password is its own.
    pub(crate) async fn enter(
        &self,
        name: &str,
        password: String,
        address: &str,
    ) -> Result<Account, Status> {
        let wrong = || Status::unauthenticated("name and password do not belong together");
        let now = Instant::now();
        self.by_address.take(address, now).and_then(|()| self.by_name.take(name, now)).map_err(
            |wait| {
                tracing::warn!(client.address = address, "too many attempts to log in");
                let s = wait.as_secs() + 1;
                Status::resource_exhausted(format!("too many attempts: try again in {s} s"))
            },
        )?;
        if name.len() > NAME_BYTES_MAX || password.len() > PASSWORD_BYTES_MAX {
            return Err(wrong());
        }
        let busy = |_| Status::resource_exhausted("too many people log in: try again in 5 s");
        let _waiting = self.waiting.try_acquire().map_err(busy)?;
        let accounts =
            self.store.accounts().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let account = accounts.into_iter().find(|account| account.name == name);
        let stored = account.as_ref().map_or(&self.decoy, |account| &account.password).clone();
        let gone = |_| Status::internal("the check of the password was interrupted");
        let working = self.working.clone().acquire_owned().await.map_err(|_| wrong())?;
        let verified = tokio::task::spawn_blocking(move || {
            let _working = working;
            verify(&password, &stored)
        });
        match (verified.await.map_err(gone)?, account) {
            (true, Some(account)) => Ok(account),
            _ => {
                tracing::warn!(client.address = address, "an attempt to log in failed");
                Err(wrong())
            }
        }
    }
}

/// argon2id with the parameters that its authors recommend, in constant time.
fn verify(password: &str, stored: &str) -> bool {
    let Ok(stored) = PasswordHash::new(stored) else { return false };
    Argon2::default().verify_password(password.as_bytes(), &stored).is_ok()
}

pub(crate) async fn is(password: String, stored: String) -> bool {
    tokio::task::spawn_blocking(move || verify(&password, &stored)).await.unwrap_or(false)
}

pub(crate) async fn hash(password: String) -> anyhow::Result<String> {
    let hashed = tokio::task::spawn_blocking(move || {
        Argon2::default().hash_password(password.as_bytes()).map(|hash| hash.to_string())
    });
    hashed
        .await
        .context("hashing a password was interrupted")?
        .map_err(|error| anyhow::anyhow!("failed to hash a password: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_alone() {
        let stored = hash("correct horse".to_owned()).await.expect("hashed");
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(is("correct horse".to_owned(), stored.clone()).await);
        assert!(!is("correct house".to_owned(), stored).await);
        assert!(!is("anything".to_owned(), "no hash at all".to_owned()).await);
    }
}
