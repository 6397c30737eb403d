//! The executable: one role per sub-command, and all of them in one process with `muster up`.
//!
//! Only composes: what a role does is its crate's. Start with [`cli`], then [`up`].

use std::process::ExitCode;

mod account;
mod aggregator;
mod alerts;
mod bench;
mod check_config;
mod cli;
mod collector;
mod completions;
mod config;
mod crew;
mod data_dir;
mod demo;
mod doorkeeper;
mod exposure;
mod gateway;
mod guard;
mod health;
mod logs;
mod machine;
mod migrate;
mod overload;
mod probe;
mod reload;
mod remote;
mod serving;
mod stores;
mod token;
mod top;
mod up;

// glibc keeps what many threads freed; a server that runs for months must give it back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", daemon::hint::report(&error));
            ExitCode::FAILURE
        }
    }
}
