//! Times in which nobody is told.

use model::{Matcher, UnixMillis};
use proto::convert::FieldError;
use serde::{Deserialize, Serialize};

use crate::alert::Alert;
use crate::rule::{Level, matcher_from_text, matcher_to_text};

mod recurrence;

pub use recurrence::{Every, Recurrence, zone};

#[derive(Clone, Debug, PartialEq)]
pub struct Silence {
    pub id: String,
    /// At least one; all must accept.
    pub matchers: Vec<Matcher>,
    pub start: UnixMillis,
    pub end: UnixMillis,
    pub author: String,
    pub comment: String,
    /// It comes again; `start` to `end` is then its first time.
    pub recurrence: Option<Recurrence>,
}

/// As the store keeps it.
#[derive(Serialize, Deserialize)]
struct Document {
    matchers: Vec<String>,
    start: i64,
    end: i64,
    author: String,
    comment: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recurrence: Option<recurrence::Document>,
}

pub const LENGTH_MS_MAX: i64 = 366 * 24 * 60 * 60 * 1000;
const AUTHOR_BYTES_MAX: usize = 120;
const COMMENT_BYTES_MAX: usize = 1024;

impl Silence {
    pub fn check(&self) -> Result<(), FieldError> {
        let refuse = |field: &str, problem: String| Err(FieldError::new(field, problem));
        if self.matchers.is_empty() || self.matchers.len() > 32 {
            let found = self.matchers.len();
            return refuse("matchers", format!("expected 1 to 32 matchers, found {found}"));
        }
        crate::rule::check_matchers("matchers", &self.matchers)?;
        let length = self.end.since(self.start);
        if !(1..=LENGTH_MS_MAX).contains(&length) {
            return refuse("end", "expected a moment after start and within a year of it".into());
        }
        if let Some(recurrence) = &self.recurrence {
            if length > recurrence.every.length_ms_max() {
                let problem = "expected an end before it comes again";
                return refuse("end", problem.into());
            }
            if recurrence.until.is_some_and(|until| until <= self.start) {
                return refuse("recurrence.until", "expected a time after start".into());
            }
        }
        if self.author.len() > AUTHOR_BYTES_MAX {
            return refuse("author", format!("longer than {AUTHOR_BYTES_MAX} bytes"));
        }
        if self.comment.len() > COMMENT_BYTES_MAX {
            return refuse("comment", format!("longer than {COMMENT_BYTES_MAX} bytes"));
        }
        Ok(())
    }

    pub fn is_in_force(&self, now: UnixMillis) -> bool {
        match &self.recurrence {
            None => self.start <= now && now < self.end,
            Some(recurrence) => recurrence.covers(self.start, self.end, now),
        }
    }

    /// From here on it is never in force again.
    pub fn over(&self) -> UnixMillis {
        match &self.recurrence {
            None => self.end,
            Some(recurrence) => recurrence.until.unwrap_or(UnixMillis::MAX),
        }
    }

    /// Makes it over; one that has not begun ends before it does.
    pub fn end_now(&mut self, now: UnixMillis) {
        let at = now.max(self.start);
        match &mut self.recurrence {
            None => self.end = at,
            Some(recurrence) => recurrence.until = Some(at),
        }
    }

    pub fn covers(&self, alert: &Alert, level: Option<Level>) -> bool {
        accepts(&self.matchers, alert, level)
    }

    pub fn to_json(&self) -> String {
        let document = Document {
            matchers: self.matchers.iter().map(matcher_to_text).collect(),
            start: self.start.0,
            end: self.end.0,
            author: self.author.clone(),
            comment: self.comment.clone(),
            recurrence: self.recurrence.as_ref().map(Recurrence::to_document),
        };
        serde_json::to_string(&document).expect("texts and numbers are always JSON")
    }

    pub fn from_json(id: &str, json: &str) -> Option<Self> {
        let document: Document = serde_json::from_str(json).ok()?;
        let matchers = document.matchers.iter().map(|text| matcher_from_text(text));
        Some(Self {
            id: id.to_owned(),
            matchers: matchers.collect::<Option<_>>()?,
            start: UnixMillis(document.start),
            end: UnixMillis(document.end),
            author: document.author,
            comment: document.comment,
            recurrence: match document.recurrence {
                Some(recurrence) => Some(Recurrence::from_document(recurrence)?),
                None => None,
            },
        })
    }
}

/// Whether all matchers accept the alert. They see the labels of the series, of the rule and of the machine,
/// and `host.name`, `machine.id`, `rule`, `level` and `phase`.
pub fn accepts(matchers: &[Matcher], alert: &Alert, level: Option<Level>) -> bool {
    let machine = alert.machine.to_string();
    matchers.iter().all(|matcher| {
        let value = match matcher.name.as_str() {
            "rule" => &alert.rule.spec.name,
            "level" => level.map_or("", Level::name),
            "phase" => alert.life.phase().name(),
            "host.name" => &alert.identity.host_name,
            "machine.id" => &machine,
            name => [
                alert.series.as_ref().map_or("", |s| s.labels.get(name)),
                alert.rule.spec.labels.get(name),
                alert.identity.labels.get(name),
            ]
            .into_iter()
            .find(|value| !value.is_empty())
            .unwrap_or(""),
        };
        matcher.accepts(value)
    })
}
