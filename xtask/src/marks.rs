//! Figures that a command writes into a page of the documentation, between two marks.

use std::path::Path;

use anyhow::{Context as _, Result};

/// Replaces what `cargo xtask COMMAND` wrote the last time into this page of `docs/reference`.
pub(crate) fn write(page: &str, command: &str, section: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference").join(page);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("failed to read {}", path.display()))?;
    let text = replaced(&text, command, section).with_context(|| page.to_owned())?;
    std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
}

fn replaced(page: &str, command: &str, section: &str) -> Result<String> {
    let begin = format!("<!-- cargo xtask {command}: begin -->");
    let end = format!("<!-- cargo xtask {command}: end -->");
    let parts = page.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let (before, after) = parts.with_context(|| format!("expected the lines {begin} and {end}"))?;
    Ok(format!("{before}{begin}\n{section}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let page = |text: &str| {
            let mark = |word| format!("<!-- cargo xtask bench: {word} -->");
            format!("a\n{}\n{text}{}\nb\n", mark("begin"), mark("end"))
        };
        assert_eq!(replaced(&page("old\n"), "bench", "new\n").expect("has marks"), page("new\n"));
        assert!(replaced(&page("old\n"), "other", "new\n").is_err());
    }
}
