//! Databases for tests.

use std::sync::Arc;

use super::Database;

/// An empty database, in a directory that is removed with it.
pub(crate) async fn scratch() -> Arc<Database> {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let database = Database::open(&folder.path().join("muster.db")).await.expect("opens");
    let mut database = Arc::into_inner(database).expect("nobody else has it yet");
    database.scratch = Some(folder);
    Arc::new(database)
}
