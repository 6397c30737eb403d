//! `/proc/<pid>/stat` and what is needed of `/proc/stat`.

use model::ProcessState;

use super::super::source::number;

/// One line of `/proc/<pid>/stat`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stat<'a> {
    /// At most 15 bytes, any bytes.
    pub(super) name: &'a [u8],
    pub(super) state: ProcessState,
    pub(super) parent_pid: u32,
    /// User and system time since the process started.
    pub(super) cpu_ticks: u64,
    pub(super) threads: u32,
    /// Since boot.
    pub(super) start_ticks: u64,
    pub(super) resident_pages: u64,
}

/// `None` when it is no such line. The name may hold spaces, parentheses and newlines, so the fields
/// are counted from its last closing parenthesis.
pub(super) fn parse(line: &[u8]) -> Option<Stat<'_>> {
    let open = line.iter().position(|&b| b == b'(')?;
    let close = line.iter().rposition(|&b| b == b')')?;
    let name = line.get(open + 1..close)?;
    let fields = line.get(close + 1..)?;
    // Numbered from 3, as proc(5) does.
    let mut numbers = [0u64; 25];
    let mut state = ProcessState::Unknown;
    let mut seen = 2;
    for field in fields.split(|b| b.is_ascii_whitespace()).filter(|f| !f.is_empty()) {
        seen += 1;
        match seen {
            3 => state = parse_state(field),
            25.. => break,
            // Some fields are negative; none of those that are used.
            _ => numbers[seen] = digits(field).unwrap_or(0),
        }
    }
    (seen >= 24).then(|| Stat {
        name,
        state,
        parent_pid: u32::try_from(numbers[4]).unwrap_or(0),
        cpu_ticks: numbers[14].saturating_add(numbers[15]),
        threads: u32::try_from(numbers[20]).unwrap_or(u32::MAX),
        start_ticks: numbers[22],
        resident_pages: numbers[24],
    })
}

/// A whole field of decimal digits. By hand: this runs for twenty fields of every process.
pub(super) fn digits(field: &[u8]) -> Option<u64> {
    if field.is_empty() {
        return None;
    }
    field.iter().try_fold(0u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

fn parse_state(field: &[u8]) -> ProcessState {
    match field {
        b"R" => ProcessState::Running,
        b"S" => ProcessState::Sleeping,
        b"D" => ProcessState::Blocked,
        b"Z" | b"X" => ProcessState::Zombie,
        b"T" | b"t" => ProcessState::Stopped,
        b"I" => ProcessState::Idle,
        _ => ProcessState::Unknown,
    }
}

#[derive(Debug, PartialEq)]
pub(super) struct SystemStat {
    pub(super) boot_time_s: i64,
    /// Processes and threads started since boot.
    pub(super) created: u64,
}

pub(super) fn parse_system_stat(text: &str) -> anyhow::Result<SystemStat> {
    let value = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::trim)
    };
    Ok(SystemStat {
        boot_time_s: number(value("btime"), "stat: btime")?,
        created: number(value("processes"), "stat: processes")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAT: &[u8] = b"19752 (cat) R 19745 19745 13978 0 -1 4194304 102 0 0 0 7 5 0 0 20 0 1 0 \
        215913 3133440 418 18446744073709551615 94863208001536 94863208021417 0 0 0\n";

    #[test]
    fn a_recorded_process_has_its_numbers() {
        let expected = Stat {
            name: b"cat",
            state: ProcessState::Running,
            parent_pid: 19745,
            cpu_ticks: 12,
            threads: 1,
            start_ticks: 215913,
            resident_pages: 418,
        };
        assert_eq!(parse(CAT), Some(expected));
    }

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let text = String::from_utf8_lossy(CAT).replace("(cat)", "(a) R 1 (\n)");
        let stat = parse(text.as_bytes()).expect("parses");
        assert_eq!(stat.name, b"a) R 1 (\n");
        assert_eq!(stat.parent_pid, 19745);
    }

    #[test]
    fn what_is_cut_or_empty_is_no_process() {
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"1 (x"), None);
        assert_eq!(parse(b"1 )x("), None);
        assert_eq!(parse(b"1 (x) S 1 2 3"), None);
    }

    #[test]
    fn digits_are_a_whole_field() {
        assert_eq!(digits(b"120"), Some(120));
        assert_eq!(digits(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(digits(b"18446744073709551616"), None);
        assert_eq!(digits(b"-1"), None);
        assert_eq!(digits(b""), None);
    }

    #[test]
    fn the_recorded_system_knows_its_boot_time() {
        let stat = parse_system_stat(include_str!("../../../../fixtures/proc/stat"));
        let expected = SystemStat { boot_time_s: 1795195686, created: 19672 };
        assert_eq!(stat.expect("parses"), expected);
        assert!(parse_system_stat("cpu 1 2 3\n").is_err());
    }
}
