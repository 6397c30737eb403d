//! Process reports of one stretch of time, compressed together: neighbours differ little.
//!
//! ```text
//! version  1 byte
//! checksum 4 bytes, CRC-32C of all that follows, little-endian
//! size     varint, of what is compressed
//! frame    zstd: for each report its time and length, then the report
//! ```

use model::UnixMillis;

use super::cursor::{Cursor, Damaged, put_signed, put_varint};
use super::report;

const VERSION: u8 = 1;

/// What one group may unpack to. A stretch with more makes several groups.
pub(crate) const BYTES_MAX: usize = 8 << 20;

/// Reports of a stretch are long and alike: higher levels cost much and gain little.
const LEVEL: i32 = 3;

/// Groups encoded reports, given with their times. Their lengths must not add up to more than
/// [`BYTES_MAX`].
pub(crate) fn encode(reports: &[(UnixMillis, Vec<u8>)]) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    for (time, report) in reports {
        put_signed(&mut plain, time.0);
        put_varint(&mut plain, report.len() as u64);
        plain.extend_from_slice(report);
    }
    let mut body = Vec::new();
    put_varint(&mut body, plain.len() as u64);
    body.append(&mut zstd::bulk::compress(&plain, LEVEL)?);
    let mut out = vec![VERSION];
    out.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    out.append(&mut body);
    Ok(out)
}

/// A group that was unpacked.
#[derive(Debug)]
pub(crate) struct ReportGroup(Vec<u8>);

impl ReportGroup {
    pub(crate) fn open(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut cursor = Cursor::new(bytes);
        if cursor.byte()? != VERSION {
            return Err(Damaged("it is of an unknown version"));
        }
        let checksum = u32::from_le_bytes(cursor.array()?);
        if crc32c::crc32c(cursor.rest()) != checksum {
            return Err(Damaged("its checksum does not match"));
        }
        let size = usize::try_from(cursor.varint()?).unwrap_or(usize::MAX);
        // Times and lengths stand beside the reports.
        if size > 2 * BYTES_MAX {
            return Err(Damaged("it is too large"));
        }
        let plain = zstd::bulk::decompress(cursor.rest(), size)
            .map_err(|_| Damaged("it does not unpack"))?;
        Ok(Self(plain))
    }

    /// The report with the greatest time before `end`; of several with one time, the last.
    pub(crate) fn newest_before(
        &self,
        end: UnixMillis,
    ) -> Result<Option<model::ProcessReport>, Damaged> {
        let mut newest: Option<(UnixMillis, &[u8])> = None;
        let mut cursor = Cursor::new(&self.0);
        while !cursor.is_empty() {
            let time = UnixMillis(cursor.signed()?);
            let len = cursor.count()?;
            let report = cursor.bytes(len)?;
            if time < end && newest.is_none_or(|(t, _)| time >= t) {
                newest = Some((time, report));
            }
        }
        newest.map(|(_, bytes)| report::take(&mut Cursor::new(bytes))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use model::{Process, ProcessReport};
    use proptest::prelude::*;

    use super::*;

    fn report(second: i64) -> ProcessReport {
        let process = |pid: u32| Process {
            pid,
            name: format!("worker-{pid}"),
            command_line: format!("/usr/bin/worker --queue {pid} --config /etc/worker/{pid}.toml"),
            user: "worker".into(),
            memory_bytes: u64::from(pid) * 4096 * (1 + second as u64 % 3),
            cpu_utilization: f64::from(pid * second as u32 % 1000) / 1000.0,
            ..Process::default()
        };
        ProcessReport {
            time: UnixMillis(second * 1000),
            processes: (1..30).map(process).collect(),
            ..ProcessReport::default()
        }
    }

    fn group(seconds: impl Iterator<Item = i64>) -> Vec<u8> {
        let reports: Vec<_> =
            seconds.map(|s| (UnixMillis(s * 1000), report::encode(&report(s)))).collect();
        encode(&reports).expect("compresses")
    }

    #[test]
    fn the_newest_report_before_a_time_is_found() {
        let group = ReportGroup::open(&group((0..120).map(|i| i * 5))).expect("own bytes");
        let at = |ms: i64| {
            group.newest_before(UnixMillis(ms)).expect("own bytes").map(|r| r.time.0 / 1000)
        };
        assert_eq!(at(0), None);
        assert_eq!(at(1), Some(0));
        assert_eq!(at(5000), Some(0));
        assert_eq!(at(7500), Some(5));
        assert_eq!(at(i64::MAX), Some(595));
        assert_eq!(group.newest_before(UnixMillis(5001)), Ok(Some(report(5))));
    }

    #[test]
    fn reports_that_are_alike_take_little() {
        let one = report::encode(&report(5)).len();
        let all = group((0..120).map(|i| i * 5)).len();
        assert!(all < 120 * one / 10, "{all} bytes for 120 reports of {one}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let look = |bytes: &[u8]| {
                ReportGroup::open(bytes).map(|g| g.newest_before(UnixMillis::MAX).map(drop)).map(drop)
            };
            prop_assert!(look(&bytes).is_err());
            let _ = ReportGroup(bytes).newest_before(UnixMillis::MAX);
            // Behind a checksum that holds.
            let mut forged = group(0..3);
            let body = 5 + at.index(forged.len() - 5);
            forged[body] = byte;
            let checksum = crc32c::crc32c(&forged[5..]).to_le_bytes();
            forged[1..5].copy_from_slice(&checksum);
            let _ = look(&forged);
        }
    }
}
