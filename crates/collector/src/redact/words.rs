//! Which options of which programs take secrets.

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
