//! `muster migrate`: brings the database up to date before anything that needs it is started.

use std::path::PathBuf;

use storage::Migrated;

use crate::config;

/// Bring the schema of TimescaleDB up to date, say what was done, and leave
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  muster migrate --config /etc/muster/muster.toml
  MUSTER_STORAGE__HISTORY__KIND__TIMESCALE__URL=postgres://owner@db/muster muster migrate
  muster migrate --config /etc/muster/owner.toml --grant muster_app

Every role that opens the database does the same when it starts, one of them at a time, so this is needed \
only where they run as a user that may not change the schema. Doing it again does nothing.")]
pub(crate) struct Args {
    /// Settings file (TOML)
    #[arg(long, value_name = "FILE", env = "MUSTER_CONFIG")]
    config: Option<PathBuf>,
    /// Let this user of the database do what aggregators and alert services do, without owning anything there
    #[arg(long, value_name = "USER", env = "MUSTER_GRANT")]
    grant: Option<String>,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let config = config::read(args.config.as_deref())?;
    let migrated = storage::migrate(&config.storage, args.grant.as_deref()).await?;
    if migrated.is_empty() {
        println!("SQLite brings its file up to date itself when it is opened: nothing to do");
    }
    for database in &migrated {
        print!("{}", report(database, args.grant.as_deref()));
    }
    Ok(())
}

fn report(migrated: &Migrated, grant: Option<&str>) -> String {
    let mut lines = String::new();
    for step in &migrated.applied {
        lines += &format!("timescaledb: applied {step}\n");
    }
    lines += &format!("timescaledb: up to date (schema {})\n", migrated.schema);
    if let Some(user) = grant {
        lines += &format!("timescaledb: {user} may use it\n");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_applied_is_said_and_where_it_stands() {
        let applied = vec!["0003_logs".to_owned(), "0004_access".to_owned()];
        let said = report(&Migrated { applied, schema: 4 }, None);
        let expected = "timescaledb: applied 0003_logs\ntimescaledb: applied 0004_access\n\
                        timescaledb: up to date (schema 4)\n";
        assert_eq!(said, expected);
        let nothing = report(&Migrated { applied: Vec::new(), schema: 4 }, Some("app"));
        let expected = "timescaledb: up to date (schema 4)\ntimescaledb: app may use it\n";
        assert_eq!(nothing, expected);
    }
}
