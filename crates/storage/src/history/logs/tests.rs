use std::collections::HashSet;

use model::{Labels, Severity};
use proptest::prelude::*;

use super::*;
use crate::history::cursor::Damaged;

fn machine(number: u128) -> MachineId {
    MachineId::from_u128(number).expect("not zero")
}

fn event(time: i64, body: &str) -> LogEvent {
    LogEvent {
        time: UnixMillis(time),
        severity: Severity::new(9).expect("a severity"),
        service: "api".into(),
        body: body.into(),
        body_truncated: false,
        attributes: Labels::empty(),
        source: "file".into(),
    }
}

fn any_event() -> impl Strategy<Value = FreshLog> {
    (1..4u128, -5..50i64, 0..25u32, 0..3usize, "\\PC{0,20}", any::<bool>(), "[a-c]{0,2}").prop_map(
        |(number, time, severity, service, body, body_truncated, value)| {
            let event = LogEvent {
                severity: Severity::new(severity).expect("a severity"),
                service: ["api", "Web", ""][service].into(),
                body_truncated,
                attributes: Labels::new([("key", value)]).expect("labels"),
                ..event(time, &body)
            };
            (machine(number), event)
        },
    )
}

fn stored(blocks: &[NewBlock]) -> Vec<FoundLog> {
    let opened = blocks.iter().enumerate().map(|(i, b)| Block::open(i as u64 + 1, &b.data));
    opened.flat_map(|block| block.expect("own bytes").events().expect("own bytes")).collect()
}

/// Searches blocks as an adapter does, filters and all.
fn search(blocks: &[(i64, &NewBlock)], search: LogSearch) -> LogPage {
    hunt(blocks, Hunt::new(search, Vec::new()))
}

fn hunt(blocks: &[(i64, &NewBlock)], mut hunt: Hunt) -> LogPage {
    let mut order: Vec<_> = blocks.to_vec();
    order.sort_by_key(|(id, block)| std::cmp::Reverse((block.last, *id)));
    for (id, block) in order {
        if hunt.is_over(block.last) {
            break;
        }
        let parts: Vec<(i64, Vec<u8>)> =
            block.filter.iter().cloned().enumerate().map(|(i, p)| (i as i64, p)).collect();
        let overlaps = block.first < hunt.range().end && block.last >= hunt.range().start;
        if overlaps && hunt.wanted.may_be_in(&parts) {
            hunt.look(id, &block.data).expect("own bytes");
        }
    }
    hunt.end()
}

#[test]
fn many_events_make_full_blocks_of_even_size() {
    let events = |count: i64| (0..count).map(|i| (machine(1), event(i, "word"))).collect();
    let sizes = |count| -> Vec<(usize, bool)> {
        let blocks = build(events(count)).expect("built");
        blocks.iter().map(|block| (block.events, block.is_full())).collect()
    };
    assert_eq!(sizes(0), []);
    assert_eq!(sizes(1), [(1, false)]);
    assert_eq!(sizes(4095), [(4095, false)]);
    assert_eq!(sizes(8192), [(8192, true)]);
    assert_eq!(sizes(8193), [(4097, true), (4096, true)]);
    let long = "x".repeat(60_000);
    let blocks = build((0..100).map(|i| (machine(1), event(i, &long))).collect()).expect("built");
    assert_eq!(blocks.iter().map(|b| b.events).collect::<Vec<_>>(), [70, 30]);
    assert!(blocks[0].is_full() && !blocks[1].is_full());
}

#[test]
fn damage_is_noticed() {
    let blocks = build(vec![(machine(1), event(1, "some words"))]).expect("built");
    let mut bytes = blocks[0].data.clone();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert_eq!(Block::open(1, &bytes).expect_err("opened"), Damaged("its checksum does not match"));
}

#[test]
fn a_search_that_ends_early_goes_on_where_it_ended() {
    let noise = "x".repeat(1000);
    let blocks: Vec<NewBlock> = (0..150)
        .map(|block| {
            let events = (0..5).map(|i| {
                let body = if i == 0 && block % 50 == 0 { "needle in the hay" } else { &noise };
                (machine(1), event(block * 100 + i, body))
            });
            build(events.collect()).expect("built").remove(0)
        })
        .collect();
    let numbered: Vec<(i64, &NewBlock)> =
        blocks.iter().enumerate().map(|(i, b)| (i as i64 + 1, b)).collect();
    let mut wanted = LogSearch::of(machine(1), TimeRange::ALL, 10);
    // The beginning of a word is in no filter, so that everything must be read.
    wanted.query = LogQuery::parse("needl*").expect("a query");
    let (mut times, mut pages) = (Vec::new(), 0);
    loop {
        let mut under_way = Hunt::new(wanted.clone(), Vec::new());
        under_way.bytes_max = 50_000;
        let page = hunt(&numbered, under_way);
        pages += 1;
        times.extend(page.events.iter().map(|found| found.position.time.0));
        wanted.before = page.next;
        if page.next.is_none() {
            break;
        }
    }
    assert_eq!(times, [10_000, 5_000, 0]);
    assert!(pages > 1);
}

#[test]
fn errors_of_one_kind_are_one_group_and_the_kinds_are_bounded() {
    let error = |time, service: &str, body: &str| {
        let severity = Severity::new(17).expect("a severity");
        (machine(1), LogEvent { severity, service: service.into(), ..event(time, body) })
    };
    let mut known = HashSet::new();
    let deltas = ErrorDeltas::of(
        &[
            error(61_000, "api", "request 7 failed"),
            error(1_000, "api", "request 8 failed"),
            error(62_000, "web", "request 9 failed"),
            (machine(1), event(5, "request 7 failed")),
        ],
        &mut known,
    );
    assert_eq!(known.len(), 2);
    let api = deltas.groups.values().find(|group| group.service == "api").expect("there");
    assert_eq!((api.first.0, api.last.0, api.count), (1_000, 61_000, 2));
    assert_eq!(api.template, "request <number> failed");
    assert_eq!(deltas.counts.values().sum::<u64>(), 3);
    let letters = |i: usize| -> String {
        i.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
    };
    let many: Vec<FreshLog> =
        (0..super::errors::GROUPS_MAX + 50).map(|i| error(1, "api", &letters(i))).collect();
    let deltas = ErrorDeltas::of(&many, &mut known);
    let others = deltas.groups.values().find(|group| group.template == OTHERS).expect("there");
    assert_eq!(others.count, 52);
}

proptest! {
    #[test]
    fn events_come_back_from_blocks_joined_or_not(
        first in prop::collection::vec(any_event(), 0..40),
        second in prop::collection::vec(any_event(), 0..40),
    ) {
        let mut blocks = build(first.clone()).expect("built");
        blocks.extend(build(second.clone()).expect("built"));
        let found = stored(&blocks);
        let mut expected: Vec<FreshLog> = first.into_iter().chain(second).collect();
        let mut events: Vec<FreshLog> = found.iter().map(|f| (f.machine, f.event.clone())).collect();
        let key = |(machine, event): &FreshLog| format!("{machine}{event:?}");
        expected.sort_by_key(key);
        events.sort_by_key(key);
        prop_assert_eq!(events, expected);
        let ids: HashSet<u64> = found.iter().map(|f| f.position.id).collect();
        prop_assert_eq!(ids.len(), found.len());
        let joined = join(found.clone(), true).expect("built");
        let mut again = found;
        again.sort_by_key(|f| f.position);
        prop_assert_eq!(stored(&joined), again);
    }

    #[test]
    fn a_search_finds_what_a_plain_look_at_everything_finds(
        commits in prop::collection::vec(prop::collection::vec(any_event(), 1..12), 1..6),
        text in "(level:>=warn )?(-?service:(api|web|w\\*) )?(key:[a-c]{1,2} )?",
        word in "\\PC{0,3}",
        of in prop::option::of(1..4u128),
        start in -10..20i64,
        limit in 1..5usize,
    ) {
        let query = LogQuery::parse(&format!("{text} {word}"))
            .or_else(|_| LogQuery::parse(&text))
            .expect("a query");
        let blocks: Vec<NewBlock> = commits
            .into_iter()
            .flat_map(|commit| {
                // With filters, as full blocks have them.
                let found = stored(&build(commit).expect("built"));
                join(found, true).expect("built")
            })
            .collect();
        // Joined blocks keep the numbers of their events, which here are not distinct: number them anew.
        let blocks: Vec<NewBlock> = blocks
            .iter()
            .enumerate()
            .flat_map(|(i, block)| {
                let mut found = Block::open(1, &block.data).expect("own bytes").events().expect("own");
                found.iter_mut().for_each(|f| f.position.id += i as u64 * 1000);
                join(found, true).expect("built")
            })
            .collect();
        let wanted = LogSearch {
            query: query.clone(),
            machines: of.map(|number| vec![machine(number)]),
            range: TimeRange::new(UnixMillis(start), UnixMillis(start + 25)),
            before: None,
            limit,
        };
        let mut expected = stored(&blocks);
        expected.retain(|found| {
            query.accepts_event(&found.event)
                && wanted.range.contains(found.event.time)
                && wanted.machines.as_ref().is_none_or(|m| m.contains(&found.machine))
        });
        expected.sort_by_key(|found| std::cmp::Reverse(found.position));
        let numbered: Vec<(i64, &NewBlock)> =
            blocks.iter().enumerate().map(|(i, b)| (i as i64 + 1, b)).collect();
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = search(&numbered, LogSearch { before, ..wanted.clone() });
            prop_assert!(page.events.len() <= limit);
            found.extend(page.events);
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        prop_assert_eq!(found, expected);
    }
}
