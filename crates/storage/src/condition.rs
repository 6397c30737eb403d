//! How the stores are doing, for people who want to see it.

use std::fmt;
use std::sync::Arc;

use crate::postgres::Timescale;
use crate::redis::Redis;
use crate::sqlite::Database;

/// What is kept where. Cheap to clone.
#[derive(Clone, Default)]
pub struct Conditions(Vec<(&'static str, Backend)>);

/// How one kind of state is kept at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `live state`, `event stream`, `history`, `registry`, `alerts`.
    pub holds: &'static str,
    pub store: &'static str,
    /// Why calls to it are not made at present.
    pub down: Option<String>,
    pub connections: Option<Connections>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    pub open: usize,
    /// Unknown where calls share connections.
    pub busy: Option<usize>,
    pub max: usize,
}

#[derive(Clone)]
pub(crate) enum Backend {
    Memory,
    Sqlite(Arc<Database>),
    Timescale(Arc<Timescale>),
    Redis(Arc<Redis>),
}

impl Conditions {
    pub(crate) fn add(&mut self, holds: &'static str, backend: Backend) {
        self.0.push((holds, backend));
    }

    /// One for each kind of state. Asks nobody: what is said is what was last noticed.
    pub fn now(&self) -> Vec<Condition> {
        self.0.iter().map(|(holds, backend)| backend.condition(holds)).collect()
    }
}

impl Backend {
    fn condition(&self, holds: &'static str) -> Condition {
        let (store, down, connections) = match self {
            Self::Memory => ("memory", None, None),
            Self::Sqlite(database) => ("SQLite", None, Some(database.connections())),
            Self::Timescale(server) => {
                ("TimescaleDB", server.breaker().open_reason(), Some(server.connections()))
            }
            Self::Redis(server) => {
                ("Redis", server.breaker().open_reason(), Some(server.connections()))
            }
        };
        Condition { holds, store, down, connections }
    }
}

impl fmt::Debug for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.now()).finish()
    }
}
