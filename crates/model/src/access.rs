//! Who may do what.

use std::fmt;
use std::str::FromStr;

use crate::MachineId;

/// What somebody may do. Each is for itself: who may read may not report, and the reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grant {
    /// See everything.
    Read,
    /// See and change everything.
    Admin,
    /// Deliver what a machine has to say, and nothing else.
    Report(Claim),
    /// Push events and values of programs, under the name of the token, and nothing else.
    Push,
}

/// Which machine a collector may say that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// Any that has no token of its own.
    Any,
    /// The first that uses the token; from then on only that one.
    First,
    Only(MachineId),
}

/// Who asks, as far as the server made sure of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Of the token or session. Not secret.
    pub id: String,
    /// Of the token, or of the account behind a session.
    pub name: String,
    pub grant: Grant,
}

impl Grant {
    /// Whether it covers reading, or changing when `change`.
    pub fn covers(self, change: bool) -> bool {
        match self {
            Self::Admin => true,
            Self::Read => !change,
            Self::Report(_) | Self::Push => false,
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read => f.write_str("read"),
            Self::Admin => f.write_str("admin"),
            Self::Push => f.write_str("push"),
            Self::Report(Claim::Any) => f.write_str("report:any"),
            Self::Report(Claim::First) => f.write_str("report:first"),
            Self::Report(Claim::Only(machine)) => write!(f, "report:{machine}"),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct GrantError {
    pub found: String,
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = &self.found;
        write!(
            f,
            "expected read, admin, push, report:any, report:first or report: and a machine id, found {found:?}"
        )
    }
}

impl std::error::Error for GrantError {}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || GrantError { found: text.chars().take(64).collect() };
        match (text, text.strip_prefix("report:")) {
            ("read", _) => Ok(Self::Read),
            ("admin", _) => Ok(Self::Admin),
            ("push", _) => Ok(Self::Push),
            (_, Some("any")) => Ok(Self::Report(Claim::Any)),
            (_, Some("first")) => Ok(Self::Report(Claim::First)),
            (_, Some(machine)) => {
                machine.parse().map(|m| Self::Report(Claim::Only(m))).map_err(|_| unknown())
            }
            (_, None) => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_written_and_read() {
        let machine = MachineId::from_u128(7).expect("not zero");
        let claims = [Claim::Any, Claim::First, Claim::Only(machine)].map(Grant::Report);
        for grant in [Grant::Read, Grant::Admin, Grant::Push].into_iter().chain(claims) {
            assert_eq!(grant.to_string().parse(), Ok(grant));
        }
        for text in ["", "Admin", "report", "report:", "report:7", "write"] {
            assert!(text.parse::<Grant>().is_err(), "{text}");
        }
    }

    #[test]
    fn who_reports_may_not_look() {
        fn check(grant: Grant, read: bool, change: bool) {
            assert_eq!((grant.covers(false), grant.covers(true)), (read, change), "{grant}");
        }
        check(Grant::Read, true, false);
        check(Grant::Admin, true, true);
        check(Grant::Report(Claim::Any), false, false);
        check(Grant::Push, false, false);
    }
}
