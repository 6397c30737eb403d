//! Compiles `proto/` in pure Rust: no `protoc` is needed, and no generated code is committed.

use std::path::{Path, PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());

    let mut files: Vec<PathBuf> = std::fs::read_dir(root.join("muster/v1"))?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    let descriptors = protox::compile(&files, [&root])?;

    // Reflection serves the very set that the bindings are made from.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("muster.bin"), descriptors.encode_to_vec())?;

    tonic_prost_build::configure()
        .build_server(std::env::var_os("CARGO_FEATURE_SERVER").is_some())
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
