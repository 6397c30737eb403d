//! Which words name secrets, and which look like them.

/// Whether an option, variable, header or key of this name holds a secret: `--db-password`,
/// `PGPASSWORD`, `X-Api-Key`, `clientSecret`; but not `--password-file` or `--max-tokens`.
pub fn is_secret_name(name: &str) -> bool {
    const ENDINGS: [&str; 12] = [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "token",
        "apikey",
        "credential",
        "credentials",
        "accesskey",
        "secretkey",
        "privatekey",
        "authorization",
    ];
    const EXACT: [&str; 6] = ["pass", "pwd", "pw", "requirepass", "masterauth", "dbpass"];
    const KEYS_OF: [&str; 9] = [
        "api",
        "access",
        "secret",
        "private",
        "encryption",
        "auth",
        "account",
        "master",
        "signing",
    ];
    if !may_be_secret_name(name.as_bytes()) {
        return false;
    }
    let name = name.trim_start_matches(['-', '/', '"', '\'', '$', '{']);
    let lower = name.to_ascii_lowercase();
    let mut parts = lower.rsplit(['-', '_', '.']).filter(|part| !part.is_empty());
    let Some(last) = parts.next() else {
        return false;
    };
    if ENDINGS.iter().any(|ending| last.ends_with(ending)) || EXACT.contains(&last) {
        return true;
    }
    let before = parts.next().unwrap_or("");
    match last {
        "key" => KEYS_OF.contains(&before),
        // AWS_ACCESS_KEY_ID names who; it is left. A secret that is numbered or versioned is not.
        _ if last.bytes().all(|b| b.is_ascii_digit()) => {
            ENDINGS.iter().any(|ending| before.ends_with(ending))
        }
        _ => false,
    }
}

/// Whether a name ends as one of a secret does, a number after it left out. Of every line of a log all names are
/// looked at, and nearly none are.
fn may_be_secret_name(name: &[u8]) -> bool {
    let is_left_out = |b: &&u8| b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    let after = name.iter().rev().take_while(is_left_out).count();
    let Some([a, b]) = name[..name.len() - after].last_chunk() else { return false };
    matches!(
        [a.to_ascii_lowercase(), b.to_ascii_lowercase()],
        // password, passwd, passphrase, secret, token, apikey, credential, credentials, authorization, pass, pw,
        // masterauth
        [b'r' | b'w', b'd']
            | [b's', b'e']
            | [b'e', b't' | b'n' | b'y']
            | [b'a', b'l']
            | [b'l' | b's', b's']
            | [b'o', b'n']
            | [b'p', b'w']
            | [b't', b'h']
    )
}

/// Whether a word looks like a token: one with a known beginning, a JSON web token, or a long run of
/// mixed letters and digits. Digests and ids in lower-case hexadecimal are left: they are no secrets,
/// and container ids and commits are worth seeing.
pub fn looks_like_token(run: &str) -> bool {
    const BEGINNINGS: [&str; 22] = [
        "ghp_",
        "gho_",
        "ghu_",
        "ghs_",
        "ghr_",
        "github_pat_",
        "glpat-",
        "xoxb-",
        "xoxp-",
        "xoxa-",
        "sk-",
        "sk_live_",
        "rk_live_",
        "AIza",
        "hvs.",
        "npm_",
        "dop_v1_",
        "pypi-",
        "mst_",
        "SG.",
        "ya29.",
        "shpat_",
    ];
    if run.len() < 16 {
        return false;
    }
    if BEGINNINGS.iter().any(|beginning| run.starts_with(beginning)) {
        return run.bytes().filter(u8::is_ascii_digit).count() >= 2;
    }
    if run.starts_with("eyJ") && run.len() >= 20 && run.bytes().filter(|b| *b == b'.').count() >= 1
    {
        return true;
    }
    // Dots and dashes stand in names of hosts, classes and versions.
    run.len() >= 32
        && run.split(['.', '-']).any(|part| {
            let count = |class: fn(&u8) -> bool| part.bytes().filter(class).count();
            part.len() >= 32
                && count(u8::is_ascii_uppercase) >= 4
                && count(u8::is_ascii_lowercase) >= 4
                && count(u8::is_ascii_digit) >= 3
        })
}
