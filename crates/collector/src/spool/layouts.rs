//! The layouts in use, encoded once.

use std::collections::HashMap;

use bytes::Bytes;
use model::{Layout, LayoutId, UnixMillis};
use prost::Message as _;
use proto::v1;

use super::record::{Record, RecordKind};

/// Far more than a machine has probes; what goes is what was not used for longest.
const KEPT_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Layouts {
    kept: HashMap<LayoutId, (Record, u64)>,
    uses: u64,
}

impl Layouts {
    pub(super) fn insert(&mut self, layout: &Layout) {
        if self.get(layout.id()).is_some() {
            return;
        }
        let message = v1::CollectorMessage {
            seq: 0,
            kind: Some(v1::collector_message::Kind::Layout(proto::convert::layout_to_proto(
                layout,
            ))),
        };
        let record = Record {
            seq: 0,
            time: UnixMillis(0),
            kind: RecordKind::Layout(layout.id()),
            body: Bytes::from(message.encode_to_vec()),
            bookmarks: Bytes::new(),
        };
        if self.kept.len() >= KEPT_MAX
            && let Some(oldest) = self.kept.iter().min_by_key(|(_, (_, used))| *used)
        {
            let oldest = *oldest.0;
            self.kept.remove(&oldest);
        }
        self.uses += 1;
        self.kept.insert(layout.id(), (record, self.uses));
    }

    pub(super) fn get(&mut self, id: LayoutId) -> Option<Record> {
        let (record, used) = self.kept.get_mut(&id)?;
        self.uses += 1;
        *used = self.uses;
        Some(record.clone())
    }
}
