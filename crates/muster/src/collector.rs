//! `muster collector`: the same as the small executable `muster-collector`.

pub(crate) use ::collector::cli::Args;

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    ::collector::cli::run(args)
}
