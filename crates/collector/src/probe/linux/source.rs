//! A small kernel file that is read again and again.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context;

/// No kernel file read here is larger; one that is was not what we think it is.
const BYTES_MAX: usize = 8 * 1024 * 1024;
const BYTES_FIRST: usize = 4 * 1024;

/// Keeps the file open and the buffer allocated; each reading starts at the beginning, where procfs,
/// sysfs and cgroupfs make the content anew.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    file: Option<File>,
    buffer: Vec<u8>,
}

impl Source {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: None, buffer: Vec::new() }
    }

    pub(crate) fn bytes(&mut self) -> io::Result<&[u8]> {
        let read = self.fill();
        if read.is_err() {
            // A device may have gone and come back under the same name.
            self.file = None;
        }
        let len = read?;
        Ok(&self.buffer[..len])
    }

    /// The content as text; bytes that are not UTF-8 are replaced.
    pub(crate) fn text(&mut self) -> anyhow::Result<Cow<'_, str>> {
        let path = self.path.clone();
        let bytes = self.bytes().with_context(|| format!("cannot read {}", path.display()))?;
        Ok(String::from_utf8_lossy(bytes))
    }

    /// `None` when this kernel does not have the file, or has switched it off.
    pub(crate) fn text_if_present(&mut self) -> anyhow::Result<Option<Cow<'_, str>>> {
        match self.bytes() {
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => {
                Err(error).with_context(|| format!("cannot read {}", self.path.display()))
            }
            Ok(bytes) => {
                let len = bytes.len();
                Ok(Some(String::from_utf8_lossy(&self.buffer[..len])))
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(File::open(&self.path)?),
        };
        if self.buffer.is_empty() {
            self.buffer.resize(BYTES_FIRST, 0);
        }
        let mut len = 0;
        loop {
            if len == self.buffer.len() {
                if len >= BYTES_MAX {
                    return Err(io::Error::other(format!("is longer than {BYTES_MAX} bytes")));
                }
                self.buffer.resize(len * 2, 0);
            }
            match file.read_at(&mut self.buffer[len..], len as u64) {
                Ok(0) => return Ok(len),
                Ok(more) => len += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether the error says that there is no such thing here, rather than that reading failed.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let absent = [Errno::NOENT, Errno::OPNOTSUPP, Errno::NODEV, Errno::NOTDIR];
    error.raw_os_error().is_some_and(|code| absent.iter().any(|e| e.raw_os_error() == code))
}

/// A number in a table of the kernel. `what` names it in the error.
pub(crate) fn number<T: FromStr>(field: Option<&str>, what: &str) -> anyhow::Result<T> {
    let field = field.with_context(|| format!("{what} is missing"))?;
    field.parse().ok().with_context(|| format!("{what}: expected a number, found {field:?}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn each_reading_sees_the_content_of_its_moment() {
        let mut file = tempfile::NamedTempFile::new().expect("temporary file");
        let mut source = Source::new(file.path());
        file.write_all(b"one").expect("writable");
        assert_eq!(source.text().expect("readable"), "one");
        file.as_file().set_len(0).expect("writable");
        assert_eq!(source.text().expect("readable"), "");
        file.write_all(&[b'x'; 3 * BYTES_FIRST]).expect("writable");
        assert!(source.bytes().expect("readable").len() > BYTES_FIRST);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let mut file = tempfile::NamedTempFile::new().expect("temporary file");
        file.write_all(b"a\xffb").expect("writable");
        assert_eq!(Source::new(file.path()).text().expect("readable"), "a\u{fffd}b");
    }

    #[test]
    fn a_missing_file_is_absent_and_an_error_names_it() {
        let mut source = Source::new("/nowhere/at/all");
        assert!(source.text_if_present().expect("absent").is_none());
        let error = source.text().expect_err("there is none");
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }
}
