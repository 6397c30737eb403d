//! Events set aside, in Redis: one hash to look at, and one with what is needed to try again.

use std::collections::HashMap;
use std::time::SystemTime;

use bytes::Bytes;
use fred::interfaces::{HashesInterface as _, KeysInterface as _, StreamsInterface as _};
use fred::types::Value;
use model::UnixMillis;
use serde::{Deserialize, Serialize};

use super::{entry, writer};
use crate::StorageError;
use crate::events::{DEAD_MAX, DeadLetter, DeadLetters, Retry, Unprocessed};
use crate::redis::keys::DEAD_TTL_S;
use crate::redis::{Redis, corrupt};

/// How a letter looks to a person with `redis-cli`.
#[derive(Debug, Deserialize, Serialize)]
struct Shown {
    since_unix_ms: i64,
    machine: String,
    kind: String,
    reason: String,
    whole: bool,
}

/// What is found by every process has the same id, so that the first one keeps it.
pub(super) async fn set_aside(redis: &Redis, what: &Unprocessed) -> Result<bool, StorageError> {
    let (letter, entry) = what.letter(UnixMillis::from(SystemTime::now()));
    let (key, content) = (redis.keys.dead(), redis.keys.dead_content());
    let id = letter.id;
    if redis.call(redis.any().hexists::<bool, _, _>(&key, &id)).await? {
        return Ok(true);
    }
    let total: usize = redis.call(redis.any().hlen(&key)).await?;
    if total >= DEAD_MAX {
        return Ok(false);
    }
    let shown = Shown {
        since_unix_ms: letter.since.0,
        machine: letter.machine,
        kind: letter.kind,
        reason: letter.reason,
        whole: letter.whole,
    };
    let shown = serde_json::to_string(&shown).map_err(|error| corrupt("dead letter", &error))?;
    let write = async {
        // The content first: whoever sees the letter can try it again.
        let pipeline = redis.any().pipeline();
        if letter.whole {
            () = pipeline.hsetnx(&content, &id, entry.data).await?;
            () = pipeline.expire(&content, DEAD_TTL_S, None).await?;
        }
        () = pipeline.hsetnx(&key, &id, shown).await?;
        () = pipeline.expire(&key, DEAD_TTL_S, None).await?;
        pipeline.all::<Value>().await
    };
    redis.call(write).await.map(|_| true)
}

pub(super) async fn letters(redis: &Redis, limit: usize) -> Result<DeadLetters, StorageError> {
    let key = redis.keys.dead();
    let all: HashMap<String, String> = redis.call(redis.any().hgetall(&key)).await?;
    let total = all.len();
    // One that cannot be read can still be discarded.
    let unreadable = |id: String, error: StorageError| DeadLetter {
        id,
        since: UnixMillis(0),
        machine: String::new(),
        kind: String::new(),
        reason: error.to_string(),
        whole: false,
    };
    let shown = |(id, shown): (String, String)| {
        read(id.clone(), &shown).unwrap_or_else(|error| unreadable(id, error))
    };
    let mut letters: Vec<_> = all.into_iter().map(shown).collect();
    letters.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    letters.truncate(limit);
    Ok(DeadLetters { letters, total })
}

/// Published, then forgotten: killed in between, it is still there, and readers know it again by its id.
pub(super) async fn retry(redis: &Redis, id: &str) -> Result<Retry, StorageError> {
    let shown: Option<String> = redis.call(redis.any().hget(redis.keys.dead(), id)).await?;
    let Some(shown) = shown else { return Ok(Retry::Absent) };
    let letter = read(id.to_owned(), &shown)?;
    let content: Option<Bytes> =
        redis.call(redis.any().hget(redis.keys.dead_content(), id)).await?;
    let Some(data) = content else { return Ok(Retry::Cut) };
    let fields = entry::again(&letter, data);
    let bound = ("MAXLEN", "~", writer::LENGTH_MAX);
    let again = redis.any().xadd(redis.keys.events(), false, bound, "*", fields);
    let _: String = redis.call(again).await?;
    discard(redis, id).await?;
    Ok(Retry::Published)
}

pub(super) async fn discard(redis: &Redis, id: &str) -> Result<bool, StorageError> {
    let delete = async {
        let pipeline = redis.any().pipeline();
        () = pipeline.hdel(redis.keys.dead(), id).await?;
        () = pipeline.hdel(redis.keys.dead_content(), id).await?;
        pipeline.all::<Vec<u64>>().await
    };
    let deleted = redis.call(delete).await?;
    Ok(deleted.first().is_some_and(|deleted| *deleted > 0))
}

fn read(id: String, shown: &str) -> Result<DeadLetter, StorageError> {
    let shown: Shown =
        serde_json::from_str(shown).map_err(|error| corrupt("dead letter", &error))?;
    Ok(DeadLetter {
        id,
        since: UnixMillis(shown.since_unix_ms),
        machine: shown.machine,
        kind: shown.kind,
        reason: shown.reason,
        whole: shown.whole,
    })
}
