//! Items that a made-up machine has sent and that nothing came of yet. As a real collector does, it keeps what the
//! server cannot take now, and sends it again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use model::SeqRanges;
use proto::v1;

/// Items at once, sent or put off; beyond it the machine makes no new ones.
pub(super) const MAX: usize = 64;
/// How long what was put off waits before it is sent again.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) message: v1::CollectorMessage,
    pub(super) carries: Carries,
    /// The first time.
    pub(super) sent: Instant,
    pub(super) put_off: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carries {
    Frame,
    Logs(u64),
}

/// What the server says of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Acknowledged,
    /// Not now; it may be sent again.
    PutOff,
    /// For good.
    Refused,
}

#[derive(Debug, Default)]
pub(super) struct Outstanding {
    on_their_way: VecDeque<Item>,
    waiting: VecDeque<Item>,
    again: Option<Instant>,
}

impl Outstanding {
    pub(super) fn is_empty(&self) -> bool {
        self.on_their_way.is_empty() && self.waiting.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.on_their_way.len() + self.waiting.len() < MAX
    }

    pub(super) fn sent(&mut self, item: Item) {
        self.on_their_way.push_back(item);
    }

    /// Takes out what is settled, and sets aside what is put off.
    pub(super) fn settle(
        &mut self,
        ranges: &SeqRanges,
        verdict: Verdict,
        now: Instant,
    ) -> Vec<Item> {
        let (named, left) = std::mem::take(&mut self.on_their_way)
            .into_iter()
            .partition(|item| ranges.contains(item.message.seq));
        self.on_their_way = left;
        if verdict != Verdict::PutOff {
            return Vec::from(named);
        }
        if !named.is_empty() {
            self.again.get_or_insert(now + PAUSE);
        }
        self.waiting.extend(named.into_iter().map(|item| Item { put_off: true, ..item }));
        Vec::new()
    }

    /// When there is something to send again.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again
    }

    /// Everything that was put off, on its way once more.
    pub(super) fn again(&mut self) -> Vec<v1::CollectorMessage> {
        self.again = None;
        let messages = self.waiting.iter().map(|item| item.message.clone()).collect();
        self.on_their_way.append(&mut self.waiting);
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(seq: u64) -> Item {
        Item {
            message: v1::CollectorMessage { seq, kind: None },
            carries: Carries::Frame,
            sent: Instant::now(),
            put_off: false,
        }
    }

    fn seqs(items: &[Item]) -> Vec<(u64, bool)> {
        items.iter().map(|item| (item.message.seq, item.put_off)).collect()
    }

    #[test]
    fn what_is_put_off_is_kept_and_sent_again_until_it_is_settled() {
        let now = Instant::now();
        let mut outstanding = Outstanding::default();
        (1..=4).for_each(|seq| outstanding.sent(item(seq)));
        let two = [2, 3].into_iter().collect();
        assert_eq!(seqs(&outstanding.settle(&two, Verdict::PutOff, now)), []);
        assert_eq!(outstanding.again_at(), Some(now + PAUSE));
        let others = [1, 4].into_iter().collect();
        let settled = outstanding.settle(&others, Verdict::Acknowledged, now);
        assert_eq!(seqs(&settled), [(1, false), (4, false)]);
        assert!(!outstanding.is_empty());
        let again: Vec<u64> = outstanding.again().iter().map(|message| message.seq).collect();
        assert_eq!(again, [2, 3]);
        assert_eq!(outstanding.again_at(), None);
        let settled = outstanding.settle(&two, Verdict::Refused, now);
        assert_eq!(seqs(&settled), [(2, true), (3, true)]);
        assert!(outstanding.is_empty());
    }

    #[test]
    fn what_is_put_off_takes_the_room_of_new_items() {
        let mut outstanding = Outstanding::default();
        (1..=MAX as u64).for_each(|seq| outstanding.sent(item(seq)));
        let all = (1..=MAX as u64).collect();
        outstanding.settle(&all, Verdict::PutOff, Instant::now());
        assert!(!outstanding.has_room());
    }
}
