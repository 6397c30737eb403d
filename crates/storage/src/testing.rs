//! The real servers that tests talk to, where there are any.

use std::str::FromStr as _;
#[cfg(test)]
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::postgres::PgConnectOptions;

#[cfg(test)]
use crate::postgres::Timescale;
#[cfg(test)]
use crate::redis::{Redis, RedisConfig};
#[cfg(test)]
use crate::secret::Secret;

/// The server that the variable names. Without it the test is skipped and says so; under `CI=true` that
/// is a failure.
pub fn server(variable: &str) -> Option<String> {
    let url = std::env::var(variable).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!ci, "{variable} is not set\nhint: run the tests with `cargo xtask test`");
        eprintln!("skipped: {variable} is not set; `cargo xtask test` starts a server and sets it");
    }
    url
}

/// A name that no other test and no other run has.
pub fn unique(name: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{name}_{now}_{}_{number}", std::process::id())
}

/// A Redis with keys of its own.
#[cfg(test)]
pub(crate) async fn redis() -> Option<Arc<Redis>> {
    let prefix = unique("test");
    redis_with(&prefix).await
}

#[cfg(test)]
pub(crate) async fn redis_with(prefix: &str) -> Option<Arc<Redis>> {
    let url = Secret::new(server("MUSTER_TEST_REDIS_URL")?);
    let config = RedisConfig { url, prefix: prefix.to_owned(), connections: 2 };
    Some(Redis::open(&config).await.expect("the server answers"))
}

/// A TimescaleDB with a schema of its own, used with no more rights than `muster migrate --grant` gives.
#[cfg(test)]
pub(crate) async fn timescale() -> Option<Arc<Timescale>> {
    let owner = PgConnectOptions::from_str(&timescale_url().await?).expect("a url");
    make_user(&owner).await;
    Timescale::migrate_with(&owner, Some(USER)).await.expect("migrated");
    let options = owner.username(USER).password(USER);
    Some(Timescale::open_with(options, 5).await.expect("opened"))
}

/// Of all tests; each has a schema of its own.
#[cfg(test)]
const USER: &str = "muster_test_user";

#[cfg(test)]
async fn make_user(owner: &PgConnectOptions) {
    use sqlx::{ConnectOptions as _, Connection as _};
    let mut connection = owner.connect().await.expect("the server answers");
    // Others make it at the same time.
    let make = format!(
        "do $$ begin
            create role {USER} login password '{USER}';
         exception when duplicate_object or unique_violation then null;
         end $$"
    );
    let make = sqlx::AssertSqlSafe(make);
    sqlx::raw_sql(make).execute(&mut connection).await.expect("a user");
    connection.close().await.expect("closed");
}

/// The address of a TimescaleDB with an empty schema of its own.
pub async fn timescale_url() -> Option<String> {
    use sqlx::{ConnectOptions as _, Connection as _};
    let url = server("MUSTER_TEST_TIMESCALE_URL")?;
    let options = PgConnectOptions::from_str(&url).expect("a url");
    let mut connection = options.connect().await.expect("the server answers");
    let schema = unique("test");
    // The name is made of letters, digits and underscores.
    let create = sqlx::AssertSqlSafe(format!("create schema {schema}"));
    sqlx::raw_sql(create).execute(&mut connection).await.expect("created");
    connection.close().await.expect("closed");
    let mark = if url.contains('?') { '&' } else { '?' };
    Some(format!("{url}{mark}options=-c%20search_path%3D{schema},public"))
}
