//! The part of a process that knows who may do what.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use model::{Claim, Grant, UnixMillis, limits};
use proto::v1::access_service_server::AccessServiceServer;
use storage::Credentials;
use storage::credentials::{Account, Credential, CredentialKind};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::config::{Config, PASSWORD_CHARS_MIN};
use crate::keyring::Keyring;
use crate::login::{self, Door};
use crate::secret;
use crate::service::Service;

/// The account that the first start makes.
const FIRST_ACCOUNT: &str = "admin";
pub(crate) const NAME_BYTES_MAX: usize = 120;

/// `AccessService` over its store.
#[derive(Clone, Debug)]
pub struct Access {
    keyring: Arc<Keyring>,
    door: Arc<Door>,
    session: Duration,
}

/// Secrets that were made up, to be printed once.
#[derive(Debug, Default)]
pub struct FirstStart {
    /// Name and password.
    pub login: Option<(String, String)>,
    pub collector_token: Option<String>,
}

impl Access {
    /// Reads what there is; where there is no account yet, makes one, and a token for collectors.
    ///
    /// # Errors
    /// A configuration that cannot work, and a store that cannot be read.
    pub async fn open(
        config: &Config,
        store: Arc<dyn Credentials>,
    ) -> anyhow::Result<(Self, FirstStart)> {
        config.check()?;
        let first = begin(config, &store).await.context("failed to prepare access control")?;
        let keyring = Keyring::open(store.clone(), preset(config)).await;
        let keyring = Arc::new(keyring.context("failed to read the tokens")?);
        let door = Arc::new(Door::open(store).await?);
        Ok((Self { keyring, door, session: config.session.get() }, first))
    }

    /// `AccessService`, with its limits on messages.
    pub fn routes(&self) -> Routes {
        let service = Service {
            keyring: self.keyring.clone(),
            door: self.door.clone(),
            session: self.session,
        };
        let service =
            AccessServiceServer::new(service).max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
        Routes::new(service)
    }

    /// Follows what other processes change, until the end.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        self.keyring.run(stop).await;
        Ok(())
    }
}

/// The account "admin": as configured, or made up where there is none at all.
async fn begin(config: &Config, store: &Arc<dyn Credentials>) -> anyhow::Result<FirstStart> {
    let mut first = FirstStart::default();
    let accounts = store.accounts().await?;
    if let Some(password) = &config.admin_password {
        let password = password.expose().to_owned();
        let admin = accounts.iter().find(|account| account.name == FIRST_ACCOUNT);
        // Sessions end when an account is changed, so it is left alone when it need not be.
        let same = match admin {
            Some(admin) => login::is(password.clone(), admin.password.clone()).await,
            None => false,
        };
        if !same {
            store.put_account(account(FIRST_ACCOUNT, Grant::Admin, password).await?).await?;
        }
        return Ok(first);
    }
    if !accounts.is_empty() {
        return Ok(first);
    }
    let password = secret::password()?;
    // Of several servers that start at once, one makes and tells it.
    if !store.add_account(account(FIRST_ACCOUNT, Grant::Admin, password.clone()).await?).await? {
        return Ok(first);
    }
    first.login = Some((FIRST_ACCOUNT.to_owned(), password));
    if config.collector_token.is_none() {
        let grant = Grant::Report(Claim::Any);
        first.collector_token =
            Some(create_token(&**store, "first start", grant, None, "first start").await?);
    }
    Ok(first)
}

async fn account(name: &str, grant: Grant, password: String) -> anyhow::Result<Account> {
    let password = login::hash(password).await?;
    Ok(Account { name: name.to_owned(), password, grant, updated: now() })
}

/// Tokens of the configuration, as if they were stored.
fn preset(config: &Config) -> Vec<Credential> {
    let tokens = [
        ("collector_token", &config.collector_token, Grant::Report(Claim::Any)),
        ("admin_token", &config.admin_token, Grant::Admin),
    ];
    tokens
        .into_iter()
        .filter_map(|(key, token, grant)| {
            Some(Credential {
                id: format!("config.{key}"),
                kind: CredentialKind::Token,
                hash: secret::hash(token.as_ref()?.expose()),
                name: format!("access.{key}"),
                grant,
                created: now(),
                created_by: "configuration".to_owned(),
                expires: None,
                used: None,
            })
        })
        .collect()
}

/// Makes a token and keeps its hash. Returns the token itself.
///
/// # Errors
/// A name that cannot be one, and a store that does not take it.
pub async fn create_token(
    store: &dyn Credentials,
    name: &str,
    grant: Grant,
    expires: Option<UnixMillis>,
    created_by: &str,
) -> anyhow::Result<String> {
    let (credential, secret) = new_token(name, grant, expires, created_by)?;
    store.add(credential).await?;
    Ok(secret)
}

pub(crate) fn new_token(
    name: &str,
    grant: Grant,
    expires: Option<UnixMillis>,
    created_by: &str,
) -> anyhow::Result<(Credential, String)> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        bail!("name: expected 1 to {NAME_BYTES_MAX} bytes of text, found {name:?}");
    }
    new_credential(CredentialKind::Token, name, grant, expires, created_by)
}

pub(crate) fn new_credential(
    kind: CredentialKind,
    name: &str,
    grant: Grant,
    expires: Option<UnixMillis>,
    created_by: &str,
) -> anyhow::Result<(Credential, String)> {
    let secret = secret::token()?;
    let credential = Credential {
        id: secret::id()?,
        kind,
        hash: secret::hash(&secret),
        name: name.to_owned(),
        grant,
        created: now(),
        created_by: created_by.to_owned(),
        expires,
        used: None,
    };
    Ok((credential, secret))
}

/// Makes an account, or gives it a new password and ends its sessions. Returns the password when it was
/// made up.
///
/// # Errors
/// A name or a password that cannot be one, and a store that does not take it.
pub async fn reset_account(
    store: &dyn Credentials,
    name: &str,
    grant: Grant,
    password: Option<String>,
) -> anyhow::Result<Option<String>> {
    let graphic = name.bytes().all(|c| c.is_ascii_graphic());
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !graphic {
        bail!("name: expected 1 to {NAME_BYTES_MAX} visible ASCII characters, found {name:?}");
    }
    let (password, made_up) = match password {
        Some(password) => (password, None),
        None => {
            let password = secret::password()?;
            (password.clone(), Some(password))
        }
    };
    let count = password.chars().count();
    if count < PASSWORD_CHARS_MIN {
        bail!("password: expected at least {PASSWORD_CHARS_MIN} characters, found {count}");
    }
    store.put_account(account(name, grant, password).await?).await?;
    Ok(made_up)
}

pub(crate) fn now() -> UnixMillis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}
