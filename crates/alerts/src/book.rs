//! The rules, channels and silences that are in force, as the store has them.

use std::sync::Arc;
use std::time::SystemTime;

use model::UnixMillis;
use storage::StorageError;
use storage::alerting::{Alerting, Audit, Saved, Setting, SettingKind};

use crate::rule::{Document, Rule, RuleId, Spec};
use crate::silence::Silence;

/// A rule with what is known about it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) rule: Arc<Rule>,
    pub(crate) setting: Setting,
}

/// Why a change did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    #[error("there is none with the id {0:?}")]
    NotFound(String),
    #[error("revision {based_on} is not in force any more, {current} is")]
    Conflict { based_on: u64, current: u64 },
    #[error("another one is called {0:?}")]
    NameTaken(String),
    #[error("it comes from the rules file")]
    FromFile,
    #[error(transparent)]
    Store(#[from] StorageError),
}

#[derive(Clone, Debug)]
pub(crate) struct Book {
    store: Arc<dyn Alerting>,
}

pub(crate) fn now() -> UnixMillis {
    SystemTime::now().into()
}

impl Book {
    pub(crate) fn new(store: Arc<dyn Alerting>) -> Self {
        Self { store }
    }

    pub(crate) async fn rules(&self) -> Result<Vec<Entry>, StorageError> {
        let settings = self.store.settings(SettingKind::Rule).await?;
        Ok(settings.into_iter().filter_map(entry).collect())
    }

    pub(crate) async fn rule(&self, id: &str) -> Result<Option<Entry>, StorageError> {
        Ok(self.rules().await?.into_iter().find(|entry| *entry.rule.id.0 == *id))
    }

    pub(crate) async fn silences(&self) -> Result<Vec<Silence>, StorageError> {
        let settings = self.store.settings(SettingKind::Silence).await?;
        let read = |s: Setting| {
            let silence = Silence::from_json(&s.id, &s.document);
            if silence.is_none() {
                tracing::error!(
                    silence.id = s.id,
                    "a stored silence cannot be read, it is left out"
                );
            }
            silence
        };
        Ok(settings.into_iter().filter_map(read).collect())
    }

    pub(crate) async fn create_rule(
        &self,
        spec: &Spec,
        origin: &str,
        actor: &str,
    ) -> Result<Entry, SaveError> {
        let taken = self.rules().await?;
        // A name that was given up may leave its id behind with a rule that was renamed.
        let slug = RuleId::from_name(&spec.name);
        let numbered = (2..).map(|n| RuleId(format!("{slug}-{n}").into()));
        let free = |id: &RuleId| taken.iter().all(|entry| entry.rule.id != *id);
        let id = std::iter::once(slug.clone()).chain(numbered).find(free).unwrap_or(slug);
        self.save_rule(id, 0, "", spec, origin, actor).await
    }

    /// `based_on` 0 means whatever is in force.
    pub(crate) async fn update_rule(
        &self,
        id: &str,
        based_on: u64,
        spec: &Spec,
        actor: &str,
        from_file: bool,
    ) -> Result<Entry, SaveError> {
        let current = self.rule(id).await?.ok_or_else(|| SaveError::NotFound(id.to_owned()))?;
        if !from_file && current.setting.origin == "file" {
            return Err(SaveError::FromFile);
        }
        let in_force = current.rule.revision;
        if based_on != 0 && based_on != in_force {
            return Err(SaveError::Conflict { based_on, current: in_force });
        }
        let origin = match (from_file, current.setting.origin.as_str()) {
            (true, _) => "file",
            (false, origin) => origin,
        };
        let before = &current.setting.document;
        self.save_rule(current.rule.id.clone(), in_force, before, spec, origin, actor).await
    }

    async fn save_rule(
        &self,
        id: RuleId,
        in_force: u64,
        before: &str,
        spec: &Spec,
        origin: &str,
        actor: &str,
    ) -> Result<Entry, SaveError> {
        let document = serde_json::to_string(&Document::of(spec))
            .map_err(|e| StorageError::Corrupt { store: "the rule", reason: e.to_string() })?;
        let setting = Setting {
            kind: SettingKind::Rule,
            id: id.to_string(),
            revision: in_force + 1,
            name: spec.name.clone(),
            origin: origin.to_owned(),
            document,
            updated: now(),
            updated_by: actor.to_owned(),
        };
        self.save(setting.clone(), before, &setting.document).await?;
        let rule = Rule { id, revision: setting.revision, spec: spec.clone() };
        Ok(Entry { rule: Arc::new(rule), setting })
    }

    pub(crate) async fn delete_rule(
        &self,
        id: &str,
        based_on: u64,
        actor: &str,
        from_file: bool,
    ) -> Result<(), SaveError> {
        let current = self.rule(id).await?.ok_or_else(|| SaveError::NotFound(id.to_owned()))?;
        if !from_file && current.setting.origin == "file" {
            return Err(SaveError::FromFile);
        }
        self.delete(&current.setting, based_on, &current.setting.document, actor).await
    }

    /// Saves what follows the revision in force. `before` and `after` are what the audit shows.
    pub(crate) async fn save(
        &self,
        setting: Setting,
        before: &str,
        after: &str,
    ) -> Result<(), SaveError> {
        let audit = Audit {
            time: setting.updated,
            actor: setting.updated_by.clone(),
            action: if setting.revision == 1 { "create" } else { "update" }.to_owned(),
            kind: setting.kind,
            subject: setting.id.clone(),
            before: before.to_owned(),
            after: after.to_owned(),
        };
        let (based_on, name) = (setting.revision - 1, setting.name.clone());
        outcome(self.store.save(setting, audit).await?, based_on, &name)
    }

    pub(crate) async fn delete(
        &self,
        current: &Setting,
        based_on: u64,
        before: &str,
        actor: &str,
    ) -> Result<(), SaveError> {
        let audit = Audit {
            time: now(),
            actor: actor.to_owned(),
            action: "delete".to_owned(),
            kind: current.kind,
            subject: current.id.clone(),
            before: before.to_owned(),
            after: String::new(),
        };
        let revision = if based_on == 0 { current.revision } else { based_on };
        let saved = self.store.remove(current.kind, &current.id, revision, audit).await?;
        outcome(saved, revision, &current.name)
    }

    /// The default rules, on the first start only: one that was deleted stays deleted.
    pub(crate) async fn seed(&self, defaults: Vec<Spec>) -> Result<(), SaveError> {
        let marks = self.store.settings(SettingKind::Mark).await?;
        if marks.iter().any(|mark| mark.id == "defaults") {
            return Ok(());
        }
        for spec in defaults {
            match self.create_rule(&spec, "default", "muster").await {
                // A start that was killed half way left some behind, or another service starts as well.
                Ok(_) | Err(SaveError::NameTaken(_) | SaveError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mark = Setting {
            kind: SettingKind::Mark,
            id: "defaults".to_owned(),
            revision: 1,
            name: "defaults".to_owned(),
            origin: "default".to_owned(),
            document: "{}".to_owned(),
            updated: now(),
            updated_by: "muster".to_owned(),
        };
        match self.save(mark, "", "").await {
            Err(SaveError::Conflict { .. }) => Ok(()),
            outcome => outcome,
        }
    }
}

fn outcome(saved: Saved, based_on: u64, name: &str) -> Result<(), SaveError> {
    match saved {
        Saved::Done => Ok(()),
        Saved::Conflict { current } => {
            Err(SaveError::Conflict { based_on, current: current.unwrap_or(0) })
        }
        Saved::NameTaken => Err(SaveError::NameTaken(name.to_owned())),
    }
}

fn entry(setting: Setting) -> Option<Entry> {
    let document: Result<Document, _> = serde_json::from_str(&setting.document);
    let spec =
        document.map_err(|e| e.to_string()).and_then(|d| d.to_spec().map_err(|e| e.to_string()));
    match spec {
        Ok(spec) => {
            let id = RuleId(setting.id.as_str().into());
            let rule = Rule { id, revision: setting.revision, spec };
            Some(Entry { rule: Arc::new(rule), setting })
        }
        Err(error) => {
            // A newer version may have written it. The others go on.
            tracing::error!(
                rule.id = setting.id,
                error,
                "a stored rule cannot be read, it is left out"
            );
            None
        }
    }
}
