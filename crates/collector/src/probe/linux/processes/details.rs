//! Name, user, command line and container of the processes that are reported.

use std::path::Path;

use model::UnixMillis;

use super::table::Table;
use super::users::Users;
use crate::probe::linux::container::cgroup::container_of;
use crate::redact;

/// What does not change while a process runs the same program.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Details {
    pub(super) name: String,
    pub(super) command_line: String,
    pub(super) user: String,
    /// Short form; empty outside a container.
    pub(super) container_id: String,
    /// Set by the first report, so that it does not wobble with the clock.
    pub(super) start_time: Option<UnixMillis>,
}

/// Reads details once per process and program.
pub(super) struct Reader {
    users: Users,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { users: Users::new("/etc/passwd") }
    }

    /// The details of a row; `None` when it is gone from the table.
    pub(super) fn details<'t>(
        &mut self,
        table: &'t mut Table,
        index: usize,
    ) -> Option<&'t mut Details> {
        let pid = table.rows()[index].pid;
        if table.remembered(pid)?.1.is_none() {
            let user = table.user_id(pid).map_or(String::new(), |id| self.users.name(id));
            let cgroup = table.file(pid, b"cgroup").map(String::from_utf8_lossy);
            let container = cgroup.and_then(|text| container_of(&text));
            let container_id = container.map_or(String::new(), |id| id.short().to_owned());
            let arguments = table.file(pid, b"cmdline").unwrap_or(&[]).to_vec();
            let (kernel_name, place) = table.remembered(pid)?;
            *place = Some(Box::new(Details {
                name: full_name(kernel_name, &arguments),
                command_line: redact::command_line(&arguments),
                user,
                container_id,
                start_time: None,
            }));
        }
        table.remembered(pid)?.1.as_deref_mut()
    }
}

/// The kernel keeps 15 bytes of a name; the rest is taken from the program's path when that goes on.
fn full_name(kernel_name: &[u8], arguments: &[u8]) -> String {
    let program = arguments.split(|&b| b == 0).next().unwrap_or(&[]);
    let program = String::from_utf8_lossy(program);
    let base = Path::new(&*program).file_name().map(|name| name.to_string_lossy());
    let name = String::from_utf8_lossy(kernel_name);
    match base {
        Some(base) if kernel_name.len() >= 15 && base.starts_with(&*name) => {
            base.chars().take(128).collect()
        }
        _ => name.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_name_is_completed_from_the_program() {
        fn check(kernel_name: &str, arguments: &[u8], expected: &str) {
            assert_eq!(full_name(kernel_name.as_bytes(), arguments), expected);
        }
        check("muster-collecto", b"/usr/bin/muster-collector\0--x\0", "muster-collector");
        check("cat", b"/bin/catalogue\0", "cat");
        check("kworker/0:1-eve", b"", "kworker/0:1-eve");
        check("a-thread-pool-1", b"/usr/bin/java\0", "a-thread-pool-1");
        assert_eq!(full_name(b"\xff", b""), "\u{fffd}");
    }
}
