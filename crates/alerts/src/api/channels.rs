//! The channels' part of `AlertConfigService`.

use proto::v1;
use std::time::Instant;
use storage::alerting::{Setting, SettingKind};
use tonic::Status;

use super::channel::{channel_from_proto, channel_to_proto};
use super::{Api, refused, unavailable};
use crate::book::{SaveError, now};
use crate::notify::{Answer, Channel, Message};
use crate::rule::RuleId;

impl Api {
    pub(super) async fn read_channels(&self) -> Result<Vec<v1::Channel>, Status> {
        let channels = self.directory.reload().await.map_err(unavailable)?;
        let mut wire = Vec::with_capacity(channels.len());
        for channel in channels.iter() {
            wire.push(self.show(channel).await?);
        }
        Ok(wire)
    }

    async fn show(&self, channel: &Channel) -> Result<v1::Channel, Status> {
        let queued = self.store.queue_len(&channel.id).await.map_err(unavailable)?;
        Ok(channel_to_proto(channel, self.directory.health_of(&channel.id), queued))
    }

    async fn channel(&self, id: &str) -> Result<Channel, Status> {
        let channels = self.directory.reload().await.map_err(unavailable)?;
        let found = channels.iter().find(|channel| channel.id == id).cloned();
        found.ok_or_else(|| refused("channel", SaveError::NotFound(id.to_owned())))
    }

    pub(super) async fn make_channel(
        &self,
        wire: v1::Channel,
        actor: &str,
    ) -> Result<v1::Channel, Status> {
        let mut channel = channel_from_proto(wire)?;
        channel.check().map_err(|e| e.within("channel"))?;
        let channels = self.directory.reload().await.map_err(unavailable)?;
        let slug = RuleId::from_name(&channel.name).to_string();
        let numbered = (2..).map(|n| format!("{slug}-{n}"));
        let free = |id: &String| channels.iter().all(|channel| channel.id != *id);
        channel.id = std::iter::once(slug.clone()).chain(numbered).find(free).unwrap_or(slug);
        channel.revision = 1;
        self.save_channel(&channel, None, actor).await
    }

    pub(super) async fn change_channel(
        &self,
        wire: v1::Channel,
        actor: &str,
    ) -> Result<v1::Channel, Status> {
        let mut channel = channel_from_proto(wire)?;
        let before = self.channel(&channel.id).await?;
        let (based_on, current) = (channel.revision, before.revision);
        if based_on != 0 && based_on != current {
            return Err(refused("channel", SaveError::Conflict { based_on, current }));
        }
        channel.address.keep_secrets_of(&before.address);
        channel.check().map_err(|e| e.within("channel"))?;
        channel.revision = before.revision + 1;
        self.save_channel(&channel, Some(&before), actor).await
    }

    async fn save_channel(
        &self,
        channel: &Channel,
        before: Option<&Channel>,
        actor: &str,
    ) -> Result<v1::Channel, Status> {
        let setting = setting(channel, actor);
        let shown = before.map_or(String::new(), Channel::to_json_without_secrets);
        let saved = self.book.save(setting, &shown, &channel.to_json_without_secrets()).await;
        saved.map_err(|e| refused("channel", e))?;
        self.reload().await?;
        self.show(channel).await
    }

    pub(super) async fn drop_channel(
        &self,
        id: &str,
        revision: u64,
        actor: &str,
    ) -> Result<(), Status> {
        let before = self.channel(id).await?;
        let shown = before.to_json_without_secrets();
        let deleted = self.book.delete(&setting(&before, actor), revision, &shown, actor).await;
        deleted.map_err(|e| refused("channel", e))?;
        self.reload().await
    }

    pub(super) async fn try_channel(&self, id: &str) -> Result<v1::TestChannelResponse, Status> {
        let channel = self.channel(id).await?;
        let begin = Instant::now();
        let answer = self.sender.send(&channel.address, &Message::test(&channel.name)).await;
        let (delivered, detail) = match answer {
            Answer::Delivered { detail } => (true, detail),
            Answer::Retry { reason, .. } | Answer::Refused { reason } => (false, reason),
        };
        let ms = i64::try_from(begin.elapsed().as_millis()).unwrap_or(i64::MAX);
        let took = Some(proto::convert::duration_from_ms(ms));
        Ok(v1::TestChannelResponse { delivered, detail, took })
    }
}

fn setting(channel: &Channel, actor: &str) -> Setting {
    Setting {
        kind: SettingKind::Channel,
        id: channel.id.clone(),
        revision: channel.revision,
        name: channel.name.clone(),
        origin: "rpc".to_owned(),
        document: channel.to_json(),
        updated: now(),
        updated_by: actor.to_owned(),
    }
}
