//! The contract of [`History`](crate::History).
//!
//! Every function takes a closure that opens an empty history with the given retention.

use std::sync::Arc;

use model::{Frame, Item, Layout, MachineId, Payload, Series, SpoolEpoch, TimeRange, UnixMillis};

use crate::history::{Delivery, History, LogSearch, Retention, SeriesSelector, StoredSeries};

mod delivery;
mod keeping;
mod logs;
mod others;
mod series;
mod tiers;

pub use delivery::*;
pub use keeping::*;
pub use logs::*;
pub use others::*;
pub use series::*;
pub use tiers::*;

/// Runs the whole suite: `history_contract!(async |retention: Retention| -> Arc<dyn History> { … })`.
#[macro_export]
macro_rules! history_contract {
    ($($open:tt)+) => {
        $crate::contract_tests!(history, { $($open)+ },
            what_was_appended_is_read
            an_item_is_stored_once
            acknowledged_items_are_ranges_of_their_epoch
            a_frame_without_its_layout_is_refused_with_all_beside_it
            a_frame_of_the_wrong_length_is_refused
            a_layout_is_sent_once
            series_are_found_by_name_labels_and_machine
            absent_values_are_left_out
            a_series_in_two_layouts_is_one_series
            a_frame_sent_again_with_the_same_time_replaces
            frames_are_read_as_they_came_sealed_or_not
            answers_come_in_the_order_asked
            sealing_changes_no_answer
            a_late_frame_opens_its_stretch_again
            tiers_equal_a_plain_computation_whatever_the_order_of_arrival
            a_tier_answers_for_time_that_is_not_rolled_up_yet
            maintenance_that_is_done_does_nothing
            each_kind_of_thing_is_kept_as_long_as_configured
            what_comes_after_its_raw_values_expired_joins_the_tiers
            what_comes_late_while_others_raw_values_expire_is_not_counted_twice
            the_oldest_makes_room_when_there_is_too_much
            a_removed_machine_is_forgotten_and_may_come_back
            a_key_of_what_programs_push_is_known_for_a_day_and_a_spool_for_longer
            the_newest_process_report_before_a_time_is_found
            events_and_gaps_come_newest_first
            logs_come_newest_first
            log_events_of_an_item_sent_again_are_stored_once
            a_query_selects_log_events
            pages_of_log_events_are_complete_while_blocks_are_joined
            removed_machines_have_no_log_events
            errors_are_counted_once_by_group_machine_and_time
        );
    };
}

pub(super) const SECOND: i64 = 1000;
pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const DAY: i64 = 24 * HOUR;

/// The start of a day, so that no test depends on where an hour begins.
pub(super) const START: UnixMillis = UnixMillis(19_700 * DAY);

/// One machine that delivers to a history.
pub(super) struct Sender {
    pub(super) history: Arc<dyn History>,
    pub(super) machine: MachineId,
    pub(super) epoch: SpoolEpoch,
    pub(super) layouts: Vec<Layout>,
    next: u64,
}

impl Sender {
    pub(super) fn new(history: &Arc<dyn History>, machine: u128, layouts: Vec<Layout>) -> Self {
        Self {
            history: history.clone(),
            machine: MachineId::from_u128(machine).expect("not zero"),
            epoch: SpoolEpoch(7),
            layouts,
            next: 1,
        }
    }

    /// Numbers the payload as the next item.
    pub(super) fn item(&mut self, payload: Payload) -> Item {
        self.next += 1;
        Item { seq: self.next - 1, payload }
    }

    pub(super) fn delivery(&self, items: Vec<Item>) -> Delivery {
        let received = items.iter().filter_map(|i| i.payload.time()).max().unwrap_or(START);
        Delivery {
            machine: self.machine,
            epoch: self.epoch,
            received,
            layouts: self.layouts.clone(),
            items,
        }
    }

    pub(super) async fn send(&mut self, payloads: Vec<Payload>) {
        let items = payloads.into_iter().map(|p| self.item(p)).collect();
        self.history.append(vec![self.delivery(items)]).await.expect("appended");
    }

    pub(super) async fn send_frames(&mut self, frames: &[(i64, &[f64])]) {
        let layout = self.layouts[0].id();
        self.send(frames.iter().map(|(ms, values)| frame(layout, START + *ms, values)).collect())
            .await;
    }

    pub(super) async fn find(&self, metric: &str) -> Vec<StoredSeries> {
        let selector = SeriesSelector {
            metric: metric.to_owned(),
            machines: Some(vec![self.machine]),
            ..SeriesSelector::default()
        };
        self.history.find_series(&selector, 1000).await.expect("found")
    }

    /// All its log events that a query accepts, newest first.
    pub(super) async fn logs(&self, query: &str) -> Vec<model::LogEvent> {
        let mut search = LogSearch::of(self.machine, TimeRange::ALL, 1_000_000);
        search.query = model::LogQuery::parse(query).expect("a query");
        let page = self.history.search_logs(search).await.expect("read");
        assert_eq!(page.next, None, "all on one page");
        page.events.into_iter().map(|found| found.event).collect()
    }

    /// All raw values of a metric with one series, as milliseconds after the start.
    pub(super) async fn raw(&self, metric: &str) -> Vec<(i64, f64)> {
        let series = self.find(metric).await;
        assert_eq!(series.len(), 1, "series of {metric}");
        let samples = self.history.read_raw(&series, TimeRange::ALL).await.expect("read");
        let times = samples[0].times.iter().map(|time| time.since(START));
        times.zip(samples[0].values.iter().copied()).collect()
    }
}

pub(super) fn frame(layout: model::LayoutId, time: UnixMillis, values: &[f64]) -> Payload {
    Payload::Frame(Frame { time, layout, values: values.to_vec() })
}

pub(super) fn layout(series: Vec<Series>) -> Layout {
    Layout::new(series).expect("a valid layout")
}

pub(super) fn gauge(metric: &str) -> Series {
    Series::gauge(metric, "1", model::Labels::empty())
}

pub(super) fn counter(metric: &str) -> Series {
    Series::counter(metric, "By", model::Labels::empty())
}

/// Maintains at `now` until nothing is left to do.
pub(super) async fn settle(history: &Arc<dyn History>, now: UnixMillis) {
    for _ in 0..1000 {
        let done = history.maintain(now).await.expect("maintained");
        if done == crate::history::Maintained::default() {
            return;
        }
    }
    panic!("maintenance does not come to an end");
}

/// Keeps everything for ever.
pub(super) fn forever() -> Retention {
    let ever = 10_000 * DAY;
    Retention {
        raw_ms: ever,
        minute_ms: ever,
        hour_ms: ever,
        logs_ms: ever,
        processes_ms: ever,
        events_ms: ever,
        size_max: u64::MAX,
    }
}
