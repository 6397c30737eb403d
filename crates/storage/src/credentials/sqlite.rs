//! Credentials in the same SQLite file as the history.

use std::sync::Arc;

use async_trait::async_trait;
use model::{Claim, Grant, MachineId, UnixMillis};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Account, Credential, CredentialKind, Credentials, Hash};
use crate::StorageError;
use crate::sqlite::{Database, STORE};

/// The embedded adapter of [`Credentials`].
#[derive(Clone, Debug)]
pub struct SqliteCredentials {
    database: Arc<Database>,
}

impl SqliteCredentials {
    pub fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl Credentials for SqliteCredentials {
    async fn add(&self, credential: Credential) -> Result<(), StorageError> {
        let mut tx = self.database.write().await?;
        sqlx::query(
            "insert into credential (id, kind, hash, name, may, created, created_by, expires, used)
             values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&credential.id)
        .bind(credential.kind.name())
        .bind(credential.hash.as_slice())
        .bind(&credential.name)
        .bind(credential.grant.to_string())
        .bind(credential.created.0)
        .bind(&credential.created_by)
        .bind(credential.expires.map(|time| time.0))
        .bind(credential.used.map(|time| time.0))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn all(&self) -> Result<Vec<Credential>, StorageError> {
        let mut tx = self.database.read().await?;
        let rows = sqlx::query("select * from credential order by created, id")
            .fetch_all(&mut *tx)
            .await?;
        rows.iter().map(credential).collect()
    }

    async fn find(&self, hash: &Hash) -> Result<Option<Credential>, StorageError> {
        let mut tx = self.database.read().await?;
        let row = sqlx::query("select * from credential where hash = ?")
            .bind(hash.as_slice())
            .fetch_optional(&mut *tx)
            .await?;
        row.map(|row| credential(&row)).transpose()
    }

    async fn remove(&self, id: &str) -> Result<bool, StorageError> {
        let mut tx = self.database.write().await?;
        let gone =
            sqlx::query("delete from credential where id = ?").bind(id).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(gone.rows_affected() > 0)
    }

    async fn bind(&self, id: &str, machine: MachineId) -> Result<bool, StorageError> {
        let (first, only) = (Grant::Report(Claim::First), Grant::Report(Claim::Only(machine)));
        let mut tx = self.database.write().await?;
        let bound = sqlx::query("update credential set may = ?1 where id = ?2 and may in (?1, ?3)")
            .bind(only.to_string())
            .bind(id)
            .bind(first.to_string())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(bound.rows_affected() > 0)
    }

    async fn used(&self, uses: &[(String, UnixMillis)]) -> Result<(), StorageError> {
        let mut tx = self.database.write().await?;
        for (id, time) in uses {
            sqlx::query("update credential set used = max(coalesce(used, 0), ?) where id = ?")
                .bind(time.0)
                .bind(id)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn prune(&self, before: UnixMillis) -> Result<(), StorageError> {
        let mut tx = self.database.write().await?;
        sqlx::query("delete from credential where expires < ?")
            .bind(before.0)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn accounts(&self) -> Result<Vec<Account>, StorageError> {
        let mut tx = self.database.read().await?;
        let rows = sqlx::query("select * from account order by name").fetch_all(&mut *tx).await?;
        rows.iter().map(account).collect()
    }

    async fn add_account(&self, account: Account) -> Result<bool, StorageError> {
        let mut tx = self.database.write().await?;
        let added = sqlx::query(
            "insert into account (name, password, may, updated) values (?, ?, ?, ?)
             on conflict (name) do nothing",
        )
        .bind(&account.name)
        .bind(&account.password)
        .bind(account.grant.to_string())
        .bind(account.updated.0)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(added.rows_affected() > 0)
    }

    async fn put_account(&self, account: Account) -> Result<(), StorageError> {
        let mut tx = self.database.write().await?;
        sqlx::query(
            "insert or replace into account (name, password, may, updated) values (?, ?, ?, ?)",
        )
        .bind(&account.name)
        .bind(&account.password)
        .bind(account.grant.to_string())
        .bind(account.updated.0)
        .execute(&mut *tx)
        .await?;
        sqlx::query("delete from credential where kind = 'session' and name = ?")
            .bind(&account.name)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn remove_account(&self, name: &str) -> Result<bool, StorageError> {
        let mut tx = self.database.write().await?;
        let gone =
            sqlx::query("delete from account where name = ?").bind(name).execute(&mut *tx).await?;
        sqlx::query("delete from credential where kind = 'session' and name = ?")
            .bind(name)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(gone.rows_affected() > 0)
    }
}

fn corrupt(what: &str, reason: impl std::fmt::Display) -> StorageError {
    StorageError::Corrupt { store: STORE, reason: format!("{what}: {reason}") }
}

fn credential(row: &SqliteRow) -> Result<Credential, StorageError> {
    let time = |column: &str| {
        Ok::<_, StorageError>(row.try_get::<Option<i64>, _>(column)?.map(UnixMillis))
    };
    let (kind, may): (&str, &str) = (row.try_get("kind")?, row.try_get("may")?);
    let hash: &[u8] = row.try_get("hash")?;
    Ok(Credential {
        id: row.try_get("id")?,
        kind: CredentialKind::from_name(kind)
            .ok_or_else(|| corrupt("credential.kind", format_args!("unknown name {kind:?}")))?,
        hash: hash.try_into().map_err(|e| corrupt("credential.hash", e))?,
        name: row.try_get("name")?,
        grant: may.parse().map_err(|e| corrupt("credential.may", e))?,
        created: UnixMillis(row.try_get("created")?),
        created_by: row.try_get("created_by")?,
        expires: time("expires")?,
        used: time("used")?,
    })
}

fn account(row: &SqliteRow) -> Result<Account, StorageError> {
    let may: &str = row.try_get("may")?;
    Ok(Account {
        name: row.try_get("name")?,
        password: row.try_get("password")?,
        grant: may.parse().map_err(|e| corrupt("account.may", e))?,
        updated: UnixMillis(row.try_get("updated")?),
    })
}
