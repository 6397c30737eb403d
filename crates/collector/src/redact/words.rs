//! Which words name secrets, and which look like them.

/// An option of a certain program that takes a secret without a telling name.
#[derive(Debug)]
pub(super) struct Short {
    pub(super) flag: &'static str,
    /// `-pSECRET`.
    pub(super) attached: bool,
    /// `-p SECRET`.
    pub(super) separate: bool,
}

const fn attached(flag: &'static str) -> Short {
    Short { flag, attached: true, separate: false }
}

const fn separate(flag: &'static str) -> Short {
    Short { flag, attached: false, separate: true }
}

const fn both(flag: &'static str) -> Short {
    Short { flag, attached: true, separate: true }
}

/// Programs by the beginning of their names.
const PROGRAMS: [(&str, &[Short]); 16] = [
    ("mysql", &[attached("-p")]),
    ("mariadb", &[attached("-p")]),
    ("sshpass", &[both("-p")]),
    ("mongo", &[both("-p")]),
    ("redis-cli", &[separate("-a")]),
    ("valkey-cli", &[separate("-a")]),
    ("curl", &[both("-u"), separate("--user"), separate("--proxy-user"), both("-U")]),
    ("ldap", &[both("-w")]),
    ("smbclient", &[both("-U")]),
    ("sqlcmd", &[both("-P")]),
    ("bcp", &[both("-P")]),
    ("7z", &[attached("-p")]),
    ("unrar", &[attached("-p")]),
    ("zip", &[both("-P")]),
    ("snmp", &[separate("-A"), separate("-X"), separate("-c")]),
    ("rabbitmqadmin", &[separate("-p")]),
];

/// The telling options of a program, when the word is its name. Empty when another program starts here.
pub(super) fn program_options(word: &str) -> Option<&'static [Short]> {
    if matches!(word, "|" | "||" | "&&" | ";" | "&") {
        return Some(&[]);
    }
    if word.starts_with('-') {
        return None;
    }
    let name = word.rsplit('/').next().unwrap_or(word);
    PROGRAMS.iter().find(|(program, _)| name.starts_with(program)).map(|(_, options)| *options)
}

/// Whether an option, variable, header or key of this name holds a secret: `--db-password`,
/// `PGPASSWORD`, `X-Api-Key`, `clientSecret`; but not `--password-file` or `--max-tokens`.
pub(crate) fn is_secret_name(name: &str) -> bool {
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

/// Whether a word looks like a token: one with a known beginning, a JSON web token, or a long run of
/// mixed letters and digits. Digests and ids in lower-case hexadecimal are left: they are no secrets,
/// and container ids and commits are worth seeing.
pub(crate) fn looks_like_token(run: &str) -> bool {
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
    if run.len() >= 16 && BEGINNINGS.iter().any(|beginning| run.starts_with(beginning)) {
        return run.bytes().filter(u8::is_ascii_digit).count() >= 2;
    }
    if run.starts_with("eyJ") && run.len() >= 20 && run.bytes().filter(|b| *b == b'.').count() >= 1
    {
        return true;
    }
    // Dots and dashes stand in names of hosts, classes and versions.
    run.split(['.', '-']).any(|part| {
        let count = |class: fn(&u8) -> bool| part.bytes().filter(class).count();
        part.len() >= 32
            && count(u8::is_ascii_uppercase) >= 4
            && count(u8::is_ascii_lowercase) >= 4
            && count(u8::is_ascii_digit) >= 3
    })
}
