//! Making secrets, and what is kept of them.

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use storage::credentials::Hash;

/// Without what is taken for something else when it is read out or copied by hand: 0, 1, l, o.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// 5 bits each: 200 bits that nobody guesses.
const TOKEN_CHARS: usize = 40;
/// 100 bits, in groups that can be typed.
const PASSWORD_CHARS: usize = 20;
const ID_CHARS: usize = 10;
/// Says whose they are, for people and for scanners of leaked secrets.
pub(crate) const PREFIX: &str = "mst_";
/// No secret that is worth looking up is longer.
pub(crate) const SECRET_BYTES_MAX: usize = 256;

/// What a token or a session is: shown once, kept by its bearer.
pub(crate) fn token() -> anyhow::Result<String> {
    Ok(format!("{PREFIX}{}", random(TOKEN_CHARS)?))
}

pub(crate) fn password() -> anyhow::Result<String> {
    let text = random(PASSWORD_CHARS)?;
    let groups: Vec<&str> = (0..PASSWORD_CHARS / 5).map(|i| &text[i * 5..i * 5 + 5]).collect();
    Ok(groups.join("-"))
}

pub(crate) fn id() -> anyhow::Result<String> {
    random(ID_CHARS)
}

/// A secret is random, so one round is enough: there is no shorter way than to try them all.
pub(crate) fn hash(secret: &str) -> Hash {
    Sha256::digest(secret.as_bytes()).into()
}

fn random(chars: usize) -> anyhow::Result<String> {
    let mut bytes = vec![0; chars];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .context("failed to get random numbers from the system")?;
    Ok(bytes.into_iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_can_be_typed() {
        let (one, other) = (token().expect("made"), token().expect("made"));
        assert_ne!(one, other);
        assert_eq!(one.len(), PREFIX.len() + TOKEN_CHARS);
        assert_ne!(hash(&one), hash(&other));
        let password = password().expect("made");
        assert_eq!(password.len(), 23);
        assert!(password.bytes().all(|c| c == b'-' || ALPHABET.contains(&c)), "{password}");
    }
}
