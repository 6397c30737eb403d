//! What goes into one commit, by stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use model::{Item, Layout, LayoutId, MachineId, Payload, Seq, SeqRanges, SpoolEpoch, UnixMillis};
use storage::history::Delivery;

use super::{Content, Room, Submission};
use crate::ingest::Outbox;

/// Items of many streams.
#[derive(Debug, Default)]
pub(super) struct Batch {
    groups: Vec<Group>,
    /// Group of each stream, by the address of its outbox, which lives as long as the group.
    index: HashMap<usize, usize>,
    items: usize,
    bytes: usize,
    /// Items that go with some of these and are still to come.
    to_come: usize,
}

/// Items of one stream.
#[derive(Debug)]
struct Group {
    outbox: Arc<Outbox>,
    machine: MachineId,
    epoch: SpoolEpoch,
    received: UnixMillis,
    layouts: HashMap<LayoutId, Layout>,
    items: Vec<(Seq, Content)>,
    times: Vec<Instant>,
    /// Items that go with the last one and are still to come.
    follow: usize,
    room: Room,
}

impl Batch {
    pub(super) fn push(&mut self, submission: Submission) {
        self.items += 1;
        self.bytes += submission.room.bytes;
        self.to_come += submission.follow;
        let key = Arc::as_ptr(&submission.outbox).addr();
        match self.index.get(&key) {
            Some(&at) => {
                self.to_come -= self.groups[at].follow;
                self.groups[at].push(submission);
            }
            None => {
                self.index.insert(key, self.groups.len());
                self.groups.push(Group::new(submission));
            }
        }
    }

    pub(super) fn items(&self) -> usize {
        self.items
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is still to come that goes with some of it.
    pub(super) fn is_whole(&self) -> bool {
        self.to_come == 0
    }

    /// A copy for one attempt: the store takes what it is given, and the attempt may fail.
    pub(super) fn deliveries(&self) -> Vec<Delivery> {
        self.groups.iter().map(Group::delivery).collect()
    }

    /// One batch for each stream.
    pub(super) fn split(self) -> impl Iterator<Item = Self> {
        self.groups.into_iter().map(|group| {
            let mut single = Self::default();
            single.take(group);
            single
        })
    }

    pub(super) fn absorb(&mut self, other: Self) {
        for group in other.groups {
            self.take(group);
        }
    }

    /// Of the first stream.
    pub(super) fn machine(&self) -> &dyn std::fmt::Display {
        self.groups.first().map_or(&"none", |group| &group.machine)
    }

    /// Tells every stream that its items are durable, and `each` when each of them had come.
    pub(super) fn acknowledge(self, each: impl Fn(Instant)) {
        for group in self.groups {
            group.times.iter().copied().for_each(&each);
            let seqs: SeqRanges = group.items.iter().map(|(seq, _)| *seq).collect();
            group.outbox.durable(&seqs, group.items.len());
        }
    }

    /// Tells every stream that its items could not be stored and may be sent again.
    pub(super) fn put_off(self) {
        for group in self.groups {
            let seqs: SeqRanges = group.items.iter().map(|(seq, _)| *seq).collect();
            group.outbox.not_now(&seqs, group.items.len());
        }
    }

    /// Tells every stream that nothing more will come of its items.
    pub(super) fn abandon(self) {
        for group in self.groups {
            group.outbox.durable(&SeqRanges::new(), group.items.len());
        }
    }

    fn take(&mut self, group: Group) {
        self.items += group.items.len();
        self.bytes += group.room.bytes;
        self.index.insert(Arc::as_ptr(&group.outbox).addr(), self.groups.len());
        self.groups.push(group);
    }
}

impl Group {
    fn new(first: Submission) -> Self {
        let mut group = Self {
            outbox: first.outbox,
            machine: first.machine,
            epoch: first.epoch,
            received: first.received,
            layouts: HashMap::new(),
            items: Vec::new(),
            times: Vec::new(),
            follow: first.follow,
            room: first.room,
        };
        group.add(first.seq, first.content, first.received_mono);
        group
    }

    fn push(&mut self, submission: Submission) {
        self.room.merge(submission.room);
        self.follow = submission.follow;
        self.add(submission.seq, submission.content, submission.received_mono);
    }

    fn add(&mut self, seq: Seq, content: Content, received: Instant) {
        if let Content::Frame(layout, _) = &content {
            self.layouts.entry(layout.id()).or_insert_with(|| layout.clone());
        }
        self.items.push((seq, content));
        self.times.push(received);
    }

    fn delivery(&self) -> Delivery {
        let item = |(seq, content): &(Seq, Content)| {
            let payload = match content {
                Content::Frame(_, frame) => Payload::Frame(frame.as_ref().clone()),
                Content::Other(payload) => payload.as_ref().clone(),
            };
            Item { seq: *seq, payload }
        };
        Delivery {
            machine: self.machine,
            epoch: self.epoch,
            received: self.received,
            layouts: self.layouts.values().cloned().collect(),
            items: self.items.iter().map(item).collect(),
        }
    }
}

impl Room {
    fn merge(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.stream.merge(other.stream);
        self.all.merge(other.all);
    }
}
