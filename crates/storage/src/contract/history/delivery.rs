//! Appending: durable, once, all or nothing.

use std::sync::Arc;

use model::{EventKind, Item, Labels, MachineEvent, Payload, SpoolEpoch, TimeRange};

use super::{SECOND, START, Sender, forever, frame, gauge, layout};
use crate::StorageError;
use crate::history::{History, Retention};

fn event(detail: &str) -> Payload {
    Payload::Event(MachineEvent {
        time: START,
        kind: EventKind::Reboot,
        detail: detail.to_owned(),
        attributes: Labels::empty(),
    })
}

pub async fn what_was_appended_is_read(open: impl AsyncFn(Retention) -> Arc<dyn History>) {
    let history = open(forever()).await;
    let mut sender = Sender::new(&history, 1, vec![layout(vec![gauge("a"), gauge("b")])]);
    sender.send_frames(&[(0, &[1.0, 10.0]), (SECOND, &[2.0, 20.0])]).await;
    assert_eq!(sender.raw("a").await, [(0, 1.0), (SECOND, 2.0)]);
    sender.send_frames(&[(2 * SECOND, &[3.0, 30.5])]).await;
    assert_eq!(sender.raw("b").await, [(0, 10.0), (SECOND, 20.0), (2 * SECOND, 30.5)]);
    let range = TimeRange::new(START + SECOND, START + 2 * SECOND);
    let series = sender.find("a").await;
    let samples = history.read_raw(&series, range).await.expect("read");
    assert_eq!(samples[0].values, [2.0], "the start is included, the end is not");
}

pub async fn an_item_is_stored_once(open: impl AsyncFn(Retention) -> Arc<dyn History>) {
    let history = open(forever()).await;
    let mut sender = Sender::new(&history, 1, vec![]);
    let items: Vec<Item> = ["one", "two", "three"].map(|d| sender.item(event(d))).into();
    let twice = [&items[..2], &items[..2]].concat();
    history.append(vec![sender.delivery(twice)]).await.expect("appended");
    let again = vec![sender.delivery(items.clone()), sender.delivery(items)];
    history.append(again).await.expect("appended");
    let recorded = history.recorded(sender.machine, TimeRange::ALL, 100).await.expect("read");
    assert_eq!(recorded.len(), 3, "{recorded:?}");
}

pub async fn acknowledged_items_are_ranges_of_their_epoch(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    let history = open(forever()).await;
    let mut sender = Sender::new(&history, 1, vec![]);
    let items: Vec<Item> = (0..9).map(|_| sender.item(event(""))).collect();
    let some: Vec<Item> = items.iter().filter(|i| i.seq != 4 && i.seq < 8).cloned().collect();
    history.append(vec![sender.delivery(some)]).await.expect("appended");
    let acknowledged = async |epoch: SpoolEpoch| {
        history.acknowledged(sender.machine, epoch).await.expect("read").to_string()
    };
    assert_eq!(acknowledged(SpoolEpoch(7)).await, "1-3 5-7");
    assert_eq!(acknowledged(SpoolEpoch(8)).await, "");
    let mut huge = sender.delivery(items);
    huge.epoch = SpoolEpoch(u64::MAX);
    history.append(vec![huge]).await.expect("appended");
    assert_eq!(acknowledged(SpoolEpoch(u64::MAX)).await, "1-9");
    assert_eq!(acknowledged(SpoolEpoch(7)).await, "1-3 5-7");
}

pub async fn a_frame_without_its_layout_is_refused_with_all_beside_it(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    let history = open(forever()).await;
    let mut sender = Sender::new(&history, 1, vec![]);
    let unknown = layout(vec![gauge("a")]).id();
    let items = vec![sender.item(event("beside")), sender.item(frame(unknown, START, &[1.0]))];
    let error = history.append(vec![sender.delivery(items)]).await.expect_err("refused");
    assert!(matches!(error, StorageError::Invalid { .. }), "{error}");
    let acknowledged = history.acknowledged(sender.machine, sender.epoch).await.expect("read");
    assert!(acknowledged.is_empty(), "{acknowledged}");
    let recorded = history.recorded(sender.machine, TimeRange::ALL, 10).await.expect("read");
    assert_eq!(recorded, []);
    // What was refused may come again, rightly.
    sender.layouts = vec![layout(vec![gauge("a")])];
    sender.send_frames(&[(0, &[1.0])]).await;
    assert_eq!(sender.raw("a").await, [(0, 1.0)]);
}

pub async fn a_frame_of_the_wrong_length_is_refused(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    let history = open(forever()).await;
    let mut sender = Sender::new(&history, 1, vec![layout(vec![gauge("a"), gauge("b")])]);
    let wrong = sender.item(frame(sender.layouts[0].id(), START, &[1.0]));
    let error = history.append(vec![sender.delivery(vec![wrong])]).await.expect_err("refused");
    assert!(matches!(error, StorageError::Invalid { .. }), "{error}");
}

pub async fn a_layout_is_sent_once(open: impl AsyncFn(Retention) -> Arc<dyn History>) {
    let history = open(forever()).await;
    let mut sender = Sender::new(&history, 1, vec![layout(vec![gauge("a")])]);
    sender.send_frames(&[(0, &[1.0])]).await;
    let item = sender.item(frame(sender.layouts[0].id(), START + SECOND, &[2.0]));
    let mut delivery = sender.delivery(vec![item]);
    delivery.layouts.clear();
    history.append(vec![delivery.clone()]).await.expect("the layout is known");
    assert_eq!(sender.raw("a").await, [(0, 1.0), (SECOND, 2.0)]);
    // Known of one machine is not known of another.
    delivery.machine = model::MachineId::from_u128(2).expect("not zero");
    history.append(vec![delivery]).await.expect_err("refused");
}
