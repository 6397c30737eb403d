//! Credentials in the same database as the history.

use std::sync::Arc;

use async_trait::async_trait;
use model::{Claim, Grant, MachineId, UnixMillis};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::{Account, Credential, CredentialKind, Credentials, Hash};
use crate::StorageError;
use crate::postgres::Timescale;
use crate::postgres::failure::{Outcome, corrupt};
use crate::postgres::stamp::Stamp;
use crate::postgres::text;

/// The server adapter of [`Credentials`].
#[derive(Clone, Debug)]
pub struct TimescaleCredentials {
    timescale: Arc<Timescale>,
}

impl TimescaleCredentials {
    pub fn new(timescale: Arc<Timescale>) -> Self {
        Self { timescale }
    }

    async fn insert(&self, credential: Credential) -> Outcome<()> {
        let mut tx = self.timescale.write().await?;
        sqlx::query(
            "insert into credential (id, kind, hash, name, may, created, created_by, expires, used)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(&credential.id)
        .bind(credential.kind.name())
        .bind(credential.hash.as_slice())
        .bind(text::store(&credential.name))
        .bind(credential.grant.to_string())
        .bind(Stamp(credential.created))
        .bind(text::store(&credential.created_by))
        .bind(credential.expires.map(Stamp))
        .bind(credential.used.map(Stamp))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn select(&self, hash: Option<&Hash>) -> Outcome<Vec<Credential>> {
        let mut tx = self.timescale.read().await?;
        let rows = sqlx::query(
            "select * from credential where $1::bytea is null or hash = $1 order by created, id",
        )
        .bind(hash.map(Hash::as_slice))
        .fetch_all(&mut *tx)
        .await?;
        rows.iter().map(credential).collect()
    }

    async fn delete(&self, id: &str) -> Outcome<bool> {
        let mut tx = self.timescale.write().await?;
        let gone =
            sqlx::query("delete from credential where id = $1").bind(id).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(gone.rows_affected() > 0)
    }

    async fn bind_to(&self, id: &str, machine: MachineId) -> Outcome<bool> {
        let (first, only) = (Grant::Report(Claim::First), Grant::Report(Claim::Only(machine)));
        let mut tx = self.timescale.write().await?;
        let bound = sqlx::query("update credential set may = $1 where id = $2 and may in ($1, $3)")
            .bind(only.to_string())
            .bind(id)
            .bind(first.to_string())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(bound.rows_affected() > 0)
    }

    async fn remember(&self, uses: &[(String, UnixMillis)]) -> Outcome<()> {
        let ids: Vec<&str> = uses.iter().map(|(id, _)| id.as_str()).collect();
        let times: Vec<Stamp> = uses.iter().map(|(_, time)| Stamp(*time)).collect();
        let mut tx = self.timescale.write().await?;
        sqlx::query(
            "update credential set used = greatest(used, use.time)
             from unnest($1::text[], $2::timestamptz[]) as use (id, time)
             where credential.id = use.id",
        )
        .bind(ids)
        .bind(times)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn forget(&self, before: UnixMillis) -> Outcome<()> {
        let mut tx = self.timescale.write().await?;
        sqlx::query("delete from credential where expires < $1")
            .bind(Stamp(before))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn select_accounts(&self) -> Outcome<Vec<Account>> {
        let mut tx = self.timescale.read().await?;
        let rows = sqlx::query("select * from account order by name collate \"C\"")
            .fetch_all(&mut *tx)
            .await?;
        rows.iter().map(account).collect()
    }

    async fn insert_account(&self, account: Account) -> Outcome<bool> {
        let mut tx = self.timescale.write().await?;
        let added = sqlx::query(
            "insert into account (name, password, may, updated) values ($1, $2, $3, $4)
             on conflict (name) do nothing",
        )
        .bind(text::store(&account.name))
        .bind(&account.password)
        .bind(account.grant.to_string())
        .bind(Stamp(account.updated))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(added.rows_affected() > 0)
    }

    async fn replace_account(&self, account: Account) -> Outcome<()> {
        let name = text::store(&account.name);
        let mut tx = self.timescale.write().await?;
        sqlx::query(
            "insert into account (name, password, may, updated) values ($1, $2, $3, $4)
             on conflict (name) do update set
                password = excluded.password, may = excluded.may, updated = excluded.updated",
        )
        .bind(&*name)
        .bind(&account.password)
        .bind(account.grant.to_string())
        .bind(Stamp(account.updated))
        .execute(&mut *tx)
        .await?;
        sqlx::query("delete from credential where kind = 'session' and name = $1")
            .bind(&*name)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn delete_account(&self, name: &str) -> Outcome<bool> {
        let name = text::store(name);
        let mut tx = self.timescale.write().await?;
        let gone = sqlx::query("delete from account where name = $1")
            .bind(&*name)
            .execute(&mut *tx)
            .await?;
        sqlx::query("delete from credential where kind = 'session' and name = $1")
            .bind(&*name)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(gone.rows_affected() > 0)
    }
}

#[async_trait]
impl Credentials for TimescaleCredentials {
    async fn add(&self, credential: Credential) -> Result<(), StorageError> {
        self.timescale.call(self.insert(credential)).await
    }

    async fn all(&self) -> Result<Vec<Credential>, StorageError> {
        self.timescale.call(self.select(None)).await
    }

    async fn find(&self, hash: &Hash) -> Result<Option<Credential>, StorageError> {
        Ok(self.timescale.call(self.select(Some(hash))).await?.pop())
    }

    async fn remove(&self, id: &str) -> Result<bool, StorageError> {
        self.timescale.call(self.delete(id)).await
    }

    async fn bind(&self, id: &str, machine: MachineId) -> Result<bool, StorageError> {
        self.timescale.call(self.bind_to(id, machine)).await
    }

    async fn used(&self, uses: &[(String, UnixMillis)]) -> Result<(), StorageError> {
        self.timescale.call(self.remember(uses)).await
    }

    async fn prune(&self, before: UnixMillis) -> Result<(), StorageError> {
        self.timescale.call(self.forget(before)).await
    }

    async fn accounts(&self) -> Result<Vec<Account>, StorageError> {
        self.timescale.call(self.select_accounts()).await
    }

    async fn add_account(&self, account: Account) -> Result<bool, StorageError> {
        self.timescale.call(self.insert_account(account)).await
    }

    async fn put_account(&self, account: Account) -> Result<(), StorageError> {
        self.timescale.call(self.replace_account(account)).await
    }

    async fn remove_account(&self, name: &str) -> Result<bool, StorageError> {
        self.timescale.call(self.delete_account(name)).await
    }
}

fn credential(row: &PgRow) -> Outcome<Credential> {
    let time = |column: &str| {
        Ok::<_, sqlx::Error>(row.try_get::<Option<Stamp>, _>(column)?.map(|stamp| stamp.0))
    };
    let (kind, may): (&str, &str) = (row.try_get("kind")?, row.try_get("may")?);
    let hash: &[u8] = row.try_get("hash")?;
    Ok(Credential {
        id: row.try_get("id")?,
        kind: CredentialKind::from_name(kind)
            .ok_or_else(|| corrupt("credential.kind", &format_args!("unknown name {kind:?}")))?,
        hash: hash.try_into().map_err(|e| corrupt("credential.hash", &e))?,
        name: text::load(row.try_get("name")?),
        grant: may.parse().map_err(|e| corrupt("credential.may", &e))?,
        created: row.try_get::<Stamp, _>("created")?.0,
        created_by: text::load(row.try_get("created_by")?),
        expires: time("expires")?,
        used: time("used")?,
    })
}

fn account(row: &PgRow) -> Outcome<Account> {
    let may: &str = row.try_get("may")?;
    Ok(Account {
        name: text::load(row.try_get("name")?),
        password: row.try_get("password")?,
        grant: may.parse().map_err(|e| corrupt("account.may", &e))?,
        updated: row.try_get::<Stamp, _>("updated")?.0,
    })
}
