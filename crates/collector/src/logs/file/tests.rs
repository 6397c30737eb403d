//! Real files, and everything that is done to log files: each line comes once, in its order, also when the
//! reader is killed in between.

use std::fs;
use std::io::Write as _;
use std::sync::Arc;

use proptest::prelude::*;
use tokio::sync::mpsc;

use super::*;
use crate::CollectorStats;
use crate::logs::LogBatch;
use crate::logs::asked::Gate;
use crate::logs::config::FilesConfig;

/// A directory of logs, the reader, and what stands for the spool: what a batch brought is kept, with its
/// bookmarks, or was never read.
struct Desk {
    dir: tempfile::TempDir,
    include: Vec<String>,
    places: BTreeMap<String, String>,
    lines: Vec<String>,
    services: BTreeSet<String>,
    reading: Option<(Files, Outbox, mpsc::Receiver<LogBatch>)>,
    now: Instant,
    written: u32,
    /// Whether the reader is killed whenever it may be.
    kills: bool,
    of_containers: bool,
    /// Lines of different files may come in any order.
    is_unordered: bool,
    events_per_second_max: u32,
}

impl Desk {
    fn new(globs: &[&str], kills: bool) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let include = globs.iter().map(|glob| format!("{}/{glob}", dir.path().display())).collect();
        let mut desk = Self {
            dir,
            include,
            places: BTreeMap::new(),
            lines: Vec::new(),
            services: BTreeSet::new(),
            reading: None,
            now: Instant::now(),
            written: 0,
            kills,
            of_containers: false,
            is_unordered: false,
            events_per_second_max: 0,
        };
        desk.start();
        // Globs are in use from now on.
        desk.look();
        desk
    }

    fn start(&mut self) {
        let stats = Arc::new(CollectorStats::default());
        let files = FilesConfig { include: self.include.clone(), ..FilesConfig::default() };
        let section = Section { files, of_containers: self.of_containers, gate: Gate::Open };
        let setup = Setup {
            files: vec![section],
            places: self.places.clone(),
            room: Room { spool_bytes_max: u64::MAX, stats: Arc::clone(&stats) },
            events_per_second_max: self.events_per_second_max,
        };
        let (sender, receiver) = mpsc::channel(10_000);
        let files = Files::new(setup, Parser::new(jiff::tz::TimeZone::UTC));
        self.reading = Some((files, Outbox::new(sender, stats), receiver));
    }

    /// Kills the reader and starts another.
    fn kill(&mut self) {
        self.reading = None;
        self.start();
    }

    /// As a second passes: everything that is there is read.
    fn look(&mut self) {
        for _ in 0..3 {
            self.now += SCAN_EVERY;
            while self.glance() {}
        }
        if self.kills {
            self.kill();
        }
    }

    /// One look, whatever it finds to do. True when there is more.
    fn glance(&mut self) -> bool {
        let (files, outbox, batches) = self.reading.as_mut().expect("it runs");
        let more = files.look(outbox, self.now).expect("taken");
        while let Ok(batch) = batches.try_recv() {
            self.services.extend(batch.events.iter().map(|event| event.service.clone()));
            self.lines.extend(batch.events.into_iter().map(|event| event.body));
            for Bookmark { source, place } in batch.bookmarks {
                match place {
                    Some(place) => self.places.insert(source, place),
                    None => self.places.remove(&source),
                };
            }
        }
        more
    }

    /// Reads what these globs lead to from now on, as it runs.
    fn change(&mut self, globs: &[&str]) {
        let include = |glob: &&str| vec![format!("{}/{glob}", self.dir.path().display())];
        let sections = globs.iter().map(|glob| Section {
            files: FilesConfig { include: include(glob), ..FilesConfig::default() },
            of_containers: false,
            gate: Gate::Paths(vec!["/**".to_owned()]),
        });
        let sections = sections.collect();
        let (files, outbox, _) = self.reading.as_mut().expect("it runs");
        files.change(sections, outbox);
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, name: &str) -> File {
        File::options().append(true).create(true).open(self.at(name)).expect("opens")
    }

    /// Writes the next numbers, one on each line.
    fn write(&mut self, file: &mut File, count: u32) {
        for _ in 0..count {
            writeln!(file, "line {}", self.written).expect("written");
            self.written += 1;
        }
    }

    fn write_to(&mut self, name: &str, count: u32) {
        let mut file = self.open(name);
        self.write(&mut file, count);
    }

    /// Waits until files that are written now are newer: times of files are as coarse as a tick.
    fn wait_for_tick(&self) {
        let modified = || {
            fs::write(self.at("tick"), "x").expect("written");
            fs::metadata(self.at("tick")).and_then(|m| m.modified()).expect("known")
        };
        let before = modified();
        while modified() <= before {
            std::thread::yield_now();
        }
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).expect("renamed");
    }

    fn copy_and_truncate(&self, from: &str, to: &str) {
        fs::copy(self.at(from), self.at(to)).expect("copied");
        File::options().write(true).open(self.at(from)).expect("opens").set_len(0).expect("cut");
    }

    #[track_caller]
    fn check(mut self) {
        // One file after the other, and the last line of each waits a moment for a continuation.
        (0..5).for_each(|_| self.look());
        let expected: Vec<_> = (0..self.written).map(|i| format!("line {i}")).collect();
        if self.is_unordered {
            self.lines.sort_by_key(|line| (line.len(), line.clone()));
        }
        let same = self.lines.iter().zip(&expected).take_while(|(a, b)| a == b).count();
        let around = &self.lines[same.saturating_sub(2)..self.lines.len().min(same + 5)];
        assert!(
            self.lines == expected,
            "{same} lines of {} as written, then {around:?}",
            expected.len()
        );
    }
}

/// Runs a story without and with kills.
fn story(globs: &[&str], tell: impl Fn(&mut Desk)) {
    for kills in [false, true] {
        let mut desk = Desk::new(globs, kills);
        tell(&mut desk);
        desk.check();
    }
}

#[test]
fn a_file_that_grows_is_read_on() {
    story(&["*.log"], |desk| {
        for _ in 0..5 {
            desk.write_to("app.log", 3);
            desk.look();
        }
        desk.write_to("app.log", 10_000);
    });
}

#[test]
fn a_file_that_was_there_before_is_read_from_now_on() {
    let mut desk = Desk::new(&["other"], false);
    fs::write(desk.at("app.log"), "old\nold\n").expect("written");
    desk.include = vec![format!("{}/*.log", desk.dir.path().display())];
    desk.kill();
    desk.look();
    desk.write_to("app.log", 2);
    desk.kill();
    desk.check();
}

#[test]
fn what_is_read_changes_while_it_runs() {
    let mut desk = Desk::new(&["app.log"], false);
    desk.write_to("app.log", 3);
    desk.look();
    // Another glob that leads to it: it goes on where it was.
    desk.write_to("app.log", 3);
    desk.change(&["*.log"]);
    desk.look();
    assert_eq!(desk.lines.len(), 6);
    // No longer wanted: that ends at once, and its place is forgotten.
    desk.change(&["other.log"]);
    fs::write(desk.at("app.log"), "not read\n").expect("written");
    desk.look();
    assert!(!desk.places.keys().any(|source| source.starts_with("file:")), "{:?}", desk.places);
    // Wanted again: from now on.
    desk.change(&["other.log", "app.log"]);
    desk.look();
    desk.write_to("app.log", 3);
    desk.check();
}

#[test]
fn a_rename_loses_nothing_of_either_file() {
    story(&["*.log"], |desk| {
        desk.write_to("app.log", 5);
        desk.look();
        desk.write_to("app.log", 5);
        desk.rename("app.log", "app.log.1");
        desk.write_to("app.log", 5);
        desk.look();
        desk.write_to("app.log", 5);
    });
}

#[test]
fn a_writer_may_go_on_in_the_renamed_file() {
    story(&["*.log"], |desk| {
        let mut file = desk.open("app.log");
        desk.write(&mut file, 5);
        desk.look();
        desk.rename("app.log", "app.log.1");
        drop(desk.open("app.log"));
        desk.look();
        desk.write(&mut file, 5);
        desk.look();
        desk.write_to("app.log", 5);
    });
}

#[test]
fn a_renamed_file_that_the_glob_still_finds_is_not_read_again() {
    story(&["app.log*"], |desk| {
        for _ in 0..3 {
            desk.write_to("app.log", 5);
            desk.look();
            if desk.at("app.log.1").exists() {
                desk.rename("app.log.1", "app.log.2");
            }
            desk.write_to("app.log", 5);
            desk.rename("app.log", "app.log.1");
            desk.look();
        }
    });
}

#[test]
fn what_was_copied_and_truncated_is_read_in_the_copy() {
    for glob in ["*.log", "app.log*"] {
        story(&[glob], |desk| {
            for round in 0..3 {
                desk.write_to("app.log", 50);
                desk.look();
                // Not seen before the truncation.
                desk.write_to("app.log", 50);
                desk.copy_and_truncate("app.log", &format!("app.log.{round}"));
                desk.look();
            }
            desk.write_to("app.log", 5);
        });
    }
}

#[test]
fn a_copy_comes_before_what_was_written_after_it_whenever_the_reader_is_killed() {
    for glances in 0..5 {
        let mut desk = Desk::new(&["app.log*"], false);
        desk.write_to("app.log", 20);
        desk.look();
        desk.kill();
        desk.write_to("app.log", 40);
        desk.copy_and_truncate("app.log", "app.log-20261101");
        desk.write_to("app.log", 20);
        for _ in 0..glances {
            desk.glance();
        }
        desk.kill();
        desk.check();
    }
}

#[test]
fn what_is_copied_and_cut_while_a_new_reader_looks_around_is_read_in_the_copy() {
    for (glob, copy) in [("app.log", "app.log.1"), ("app.log*", "app.log-20261128")] {
        for is_cut in [true, false] {
            let mut desk = Desk::new(&[glob], false);
            desk.write_to("app.log", 20);
            desk.look();
            desk.write_to("app.log", 40);
            desk.kill();
            let (mut files, mut outbox, batches) = desk.reading.take().expect("it runs");
            let found = files.list();
            files.find_again(&found, desk.now, &mut outbox);
            match is_cut {
                true => desk.copy_and_truncate("app.log", copy),
                false => _ = fs::copy(desk.at("app.log"), desk.at(copy)).expect("copied"),
            }
            files.open_found(found, None, desk.now, &mut outbox);
            desk.reading = Some((files, outbox, batches));
            if !is_cut {
                fs::File::options()
                    .write(true)
                    .open(desk.at("app.log"))
                    .expect("there")
                    .set_len(0)
                    .expect("cut");
            }
            desk.write_to("app.log", 20);
            desk.look();
            desk.check();
        }
    }
}

#[test]
fn a_copy_that_is_not_followed_by_a_truncation_is_not_read() {
    story(&["app.log*"], |desk| {
        desk.write_to("app.log", 50);
        desk.look();
        fs::copy(desk.at("app.log"), desk.at("app.log.bak")).expect("copied");
        desk.look();
        desk.write_to("app.log", 5);
    });
}

#[test]
fn a_truncated_file_is_read_from_its_start() {
    story(&["*.log"], |desk| {
        desk.write_to("app.log", 50);
        desk.look();
        File::create(desk.at("app.log")).expect("cut");
        desk.write_to("app.log", 5);
        desk.look();
        // Longer than before at the next look.
        File::create(desk.at("app.log")).expect("cut");
        desk.write_to("app.log", 500);
    });
}

#[test]
fn a_writer_that_keeps_its_offset_leaves_a_hole_and_no_harm() {
    story(&["*.log"], |desk| {
        let mut file = File::create(desk.at("app.log")).expect("made");
        desk.write(&mut file, 50);
        desk.look();
        desk.copy_and_truncate("app.log", "app.log.1");
        desk.write(&mut file, 5);
    });
}

#[test]
fn a_deleted_file_is_read_to_its_end() {
    // A reader that is killed cannot open it again.
    let mut desk = Desk::new(&["*.log"], false);
    desk.write_to("app.log", 5);
    desk.look();
    desk.write_to("app.log", 5);
    fs::remove_file(desk.at("app.log")).expect("removed");
    desk.look();
    desk.write_to("app.log", 5);
    desk.check();
}

#[test]
fn an_inode_that_is_used_again_is_another_file() {
    story(&["*.log"], |desk| {
        desk.write_to("app.log", 50);
        desk.look();
        desk.kill();
        fs::remove_file(desk.at("app.log")).expect("removed");
        desk.write_to("app.log", 60);
    });
}

#[test]
fn a_link_leads_to_whatever_it_leads_to_now() {
    story(&["current", "*.log"], |desk| {
        let link = |desk: &Desk, to: &str| {
            let _ = fs::remove_file(desk.at("current"));
            std::os::unix::fs::symlink(to, desk.at("current")).expect("linked");
        };
        desk.write_to("a.log", 5);
        link(desk, "a.log");
        desk.look();
        desk.write_to("a.log", 5);
        desk.look();
        desk.write_to("b.log", 5);
        link(desk, "b.log");
    });
}

#[test]
fn a_line_is_read_when_it_is_whole() {
    story(&["*.log"], |desk| {
        let mut file = desk.open("app.log");
        for i in 0..10 {
            write!(file, "li").expect("written");
            desk.look();
            writeln!(file, "ne {i}").expect("written");
            desk.look();
        }
        desk.written = 10;
    });
}

#[test]
fn a_last_line_without_end_is_read_when_nothing_more_can_come() {
    let mut desk = Desk::new(&["*.log"], false);
    desk.write_to("app.log", 5);
    write!(desk.open("app.log"), "line 5").expect("written");
    desk.look();
    assert_eq!(desk.lines.len(), 5);
    fs::remove_file(desk.at("app.log")).expect("removed");
    desk.look();
    desk.now += LET_GO_AFTER;
    desk.written = 6;
    desk.look();
    assert_eq!(desk.reading.as_ref().expect("it runs").0.followed.len(), 0);
    desk.check();
}

#[test]
fn a_glob_need_not_be_spelled_as_paths_are() {
    let mut desk = Desk::new(&[".//./app.log"], false);
    desk.write_to("app.log", 5);
    desk.look();
    for _ in 0..2 {
        desk.rename("app.log", "app.log.1");
        desk.write_to("app.log", 5);
    }
    desk.rename("app.log", "app.log.2");
    desk.write_to("app.log", 1);
    desk.kill();
    desk.look();
    desk.is_unordered = true;
    desk.check();
}

/// Time enough passes to let go of what was rotated away; then the reader is killed, and looks again.
fn let_go_and_restart(desk: &mut Desk) {
    desk.look();
    desk.now += 2 * LET_GO_AFTER;
    desk.look();
    let followed = desk.reading.as_ref().map(|(files, ..)| files.followed.len());
    assert_eq!(followed, Some(1), "the other was let go");
    for _ in 0..2 {
        desk.kill();
        desk.look();
    }
}

#[test]
fn a_copy_that_was_let_go_does_not_come_again_after_a_restart() {
    let mut desk = Desk::new(&["app.log"], false);
    desk.write_to("app.log", 5);
    desk.look();
    desk.wait_for_tick();
    desk.copy_and_truncate("app.log", "app.log.1");
    let_go_and_restart(&mut desk);
    desk.write_to("app.log", 2);
    desk.look();
    desk.check();
}

#[test]
fn a_renamed_file_that_was_let_go_does_not_come_again_after_a_restart() {
    let mut desk = Desk::new(&["app.log"], false);
    let mut file = desk.open("app.log");
    desk.write(&mut file, 5);
    desk.look();
    desk.rename("app.log", "app.log.1");
    drop(desk.open("app.log"));
    desk.look();
    desk.wait_for_tick();
    desk.write(&mut file, 1);
    let_go_and_restart(&mut desk);
    // Nor when the next is rotated away and found again.
    desk.rename("app.log.1", "app.log.2");
    desk.write_to("app.log", 2);
    desk.rename("app.log", "app.log.1");
    desk.kill();
    desk.look();
    desk.write_to("app.log", 2);
    desk.look();
    desk.check();
}

#[test]
fn rotation_while_nobody_looks_costs_nothing() {
    for glob in ["*.log", "app.log*"] {
        story(&[glob], |desk| {
            // To a glob that finds them all, they are files like any others.
            desk.is_unordered = glob == "app.log*";
            desk.write_to("app.log", 50);
            desk.look();
            desk.write_to("app.log", 50);
            desk.reading = None;
            for _ in 0..2 {
                for (from, to) in [
                    ("app.log.2", "app.log.3"),
                    ("app.log.1", "app.log.2"),
                    ("app.log", "app.log.1"),
                ] {
                    if desk.at(from).exists() {
                        desk.rename(from, to);
                    }
                }
                desk.wait_for_tick();
                desk.write_to("app.log", 50);
            }
            desk.start();
            desk.look();
            desk.reading = None;
            desk.write_to("app.log", 50);
            desk.copy_and_truncate("app.log", "app.log.9");
            desk.write_to("app.log", 5);
            desk.start();
        });
    }
}

#[test]
fn a_file_with_the_number_of_one_that_was_deleted_is_read_when_it_is_rotated_while_nobody_looks() {
    let mut desk = Desk::new(&["app.log", "gone/*.log"], false);
    fs::create_dir(desk.at("gone")).expect("made");
    desk.write_to("gone/other.log", 5);
    desk.look();
    desk.write_to("app.log", 5);
    desk.look();
    let stale = desk.places.iter().find(|(_, place)| place.contains("gone")).expect("a place");
    let stale = stale.1.clone();
    fs::remove_file(desk.at("gone/other.log")).expect("deleted");
    desk.wait_for_tick();
    desk.rename("app.log", "app.log.1");
    desk.write_to("app.log", 5);
    let metadata = fs::metadata(desk.at("app.log")).expect("there");
    desk.rename("app.log", "app.log.2");
    desk.write_to("app.log", 5);
    desk.places.insert(FileId::of(&metadata).source(), stale);
    // Killed once before anything of it is read, too.
    for glances in [1, 0] {
        desk.kill();
        for _ in 0..glances {
            desk.glance();
        }
    }
    desk.check();
}

#[test]
fn a_file_that_is_rotated_before_it_was_seen_is_read() {
    story(&["*.log"], |desk| {
        desk.write_to("app.log", 5);
        desk.look();
        for rotated in ["app.log.1", "app.log.2", "app.log.3"] {
            desk.rename("app.log", rotated);
            desk.wait_for_tick();
            desk.write_to("app.log", 5);
        }
    });
}

#[test]
fn a_file_that_is_rotated_before_any_of_its_name_was_seen_is_read() {
    let mut desk = Desk::new(&["app.log"], false);
    fs::write(desk.at("app.log.9"), "from before its globs were in use\n").expect("written");
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    let old = File::options().append(true).open(desk.at("app.log.9")).expect("opens");
    old.set_modified(long_ago).expect("set");
    for rotated in ["app.log.1", "app.log.2"] {
        desk.write_to("app.log", 5);
        desk.wait_for_tick();
        desk.rename("app.log", rotated);
    }
    desk.write_to("app.log", 5);
    desk.check();
}

#[test]
fn a_file_that_waits_for_the_one_before_it_is_found_after_a_kill_that_knows_its_successors() {
    let mut desk = Desk::new(&["app.log"], false);
    // Lines of the first come after some of the others.
    desk.is_unordered = true;
    let mut first = desk.open("app.log");
    desk.write(&mut first, 5);
    desk.look();
    desk.rename("app.log", "app.log.1");
    desk.wait_for_tick();
    desk.write_to("app.log", 5);
    // Its writer goes on in the first, so the next ones have to wait.
    for rotated in ["app.log.2", "app.log.3", "app.log.4"] {
        desk.write(&mut first, 1);
        desk.now += SCAN_EVERY;
        desk.glance();
        desk.wait_for_tick();
        desk.rename("app.log", rotated);
        desk.wait_for_tick();
        desk.write_to("app.log", 5);
    }
    assert!(desk.lines.len() < 10, "they wait");
    desk.kill();
    desk.check();
}

#[test]
fn what_came_after_a_file_that_is_gone_is_read_after_a_kill() {
    let mut desk = Desk::new(&["app.log"], false);
    desk.write_to("app.log", 5);
    desk.look();
    desk.reading = None;
    for rotated in ["app.log.1", "app.log.2", "app.log.3"] {
        desk.wait_for_tick();
        desk.rename("app.log", rotated);
        desk.write_to("app.log", 5);
    }
    fs::remove_file(desk.at("app.log.1")).expect("deleted");
    // At the first look, the one that has the name is not made yet.
    desk.wait_for_tick();
    desk.rename("app.log", "app.log.4");
    desk.start();
    desk.look();
    desk.write_to("app.log", 5);
    desk.check();
}

#[test]
fn what_was_rotated_away_long_ago_does_not_wait_for_more_lines() {
    let mut desk = Desk::new(&["app.log"], false);
    desk.write_to("app.log", 5);
    desk.look();
    desk.reading = None;
    let hour_ago = SystemTime::now() - Duration::from_secs(3_600);
    for (minute, rotated) in ["app.log.1", "app.log.2", "app.log.3"].into_iter().enumerate() {
        let file = desk.open("app.log");
        file.set_modified(hour_ago + Duration::from_secs(60 * minute as u64)).expect("set");
        desk.rename("app.log", rotated);
        desk.write_to("app.log", 5);
    }
    // As if they had been read an hour ago.
    for place in desk.places.values_mut().filter(|place| place.contains("app.log")) {
        let mut fields: serde_json::Value = serde_json::from_str(place).expect("a place");
        fields["modified"] = serde_json::json!([1, 0]);
        *place = fields.to_string();
    }
    desk.start();
    for _ in 0..3 {
        desk.glance();
    }
    let read = desk.lines.len();
    assert_eq!(read, 19, "all but the last line of the one that may go on");
    let (files, ..) = desk.reading.as_ref().expect("it runs");
    assert_eq!(files.followed.len(), 1, "what is read to its end and old is let go");
    desk.check();
}

#[derive(Clone, Debug)]
enum Step {
    Write(u32),
    Rotate,
    /// Milliseconds pass, then it looks.
    Glance(u64),
    Kill,
}

fn rotated_and_killed(steps: &[Step], shifts: bool) {
    let mut desk = Desk::new(&["app.log"], false);
    desk.write_to("app.log", 1);
    desk.look();
    let mut rotated = 0;
    for step in steps {
        match step {
            Step::Write(lines) => desk.write_to("app.log", *lines),
            Step::Rotate if desk.at("app.log").exists() => {
                rotated += 1;
                for number in (1..rotated).rev().filter(|_| shifts) {
                    desk.rename(&format!("app.log.{number}"), &format!("app.log.{}", number + 1));
                }
                let number = if shifts { 1 } else { rotated };
                desk.rename("app.log", &format!("app.log.{number}"));
                desk.wait_for_tick();
            }
            Step::Rotate => {}
            Step::Glance(ms) => {
                desk.now += Duration::from_millis(*ms);
                desk.glance();
            }
            Step::Kill => desk.kill(),
        }
    }
    desk.check();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn however_it_is_rotated_and_killed_each_line_comes_once_in_its_order(
        steps in prop::collection::vec(
            prop_oneof![
                3 => (1u32..4).prop_map(Step::Write),
                3 => Just(Step::Rotate),
                3 => prop_oneof![Just(100), Just(600), Just(1_000)].prop_map(Step::Glance),
                1 => Just(Step::Kill),
            ],
            0..40,
        ),
        shifts in any::<bool>(),
    ) {
        rotated_and_killed(&steps, shifts);
    }
}

#[test]
fn stack_traces_stay_whole_across_kills() {
    let mut desk = Desk::new(&["*.log"], true);
    write!(desk.open("app.log"), "one\nExcepti").expect("written");
    desk.look();
    writeln!(desk.open("app.log"), "on in thread main").expect("written");
    desk.kills = false;
    // Not settled yet when it is killed.
    let (files, outbox, _) = desk.reading.as_mut().expect("it runs");
    while files.look(outbox, desk.now).expect("taken") {}
    desk.kill();
    write!(desk.open("app.log"), "\tat a.B(C.java:1)\ntwo\n").expect("written");
    desk.look();
    assert_eq!(desk.lines, ["one", "Exception in thread main\n\tat a.B(C.java:1)", "two"]);
}

#[test]
fn while_the_spool_is_half_full_files_wait() {
    let mut desk = Desk::new(&["*.log"], false);
    desk.write_to("app.log", 5);
    desk.look();
    let setup = |desk: &mut Desk, bytes: u64| {
        let (files, _, _) = desk.reading.as_mut().expect("it runs");
        files.setup.room.spool_bytes_max = 100;
        files.setup.room.stats.set_spool_bytes(bytes);
    };
    setup(&mut desk, 101);
    desk.write_to("app.log", 5);
    desk.look();
    // Rotated away meanwhile: still open.
    desk.rename("app.log", "app.log.1");
    fs::remove_file(desk.at("app.log.1")).expect("removed");
    desk.look();
    assert_eq!(desk.lines.len(), 5);
    setup(&mut desk, 100);
    desk.check();
}

fn limited(globs: &[&str], events_per_second_max: u32) -> Desk {
    let mut desk = Desk::new(globs, false);
    desk.events_per_second_max = events_per_second_max;
    desk.kill();
    desk.look();
    desk
}

#[test]
fn a_flood_is_cut_and_the_cut_is_told_where_it_happened() {
    let mut desk = limited(&["*.log"], 10);
    desk.write_to("app.log", 5);
    desk.look();
    desk.write_to("app.log", 500);
    desk.look();
    desk.look();
    let told: Vec<&String> = desk.lines.iter().filter(|line| line.contains("dropped")).collect();
    let kept = desk.lines.len() - told.len();
    assert!((100..200).contains(&kept), "ten seconds' worth at once: {kept}");
    let number = |line: &&String| line.split(' ').next()?.parse::<usize>().ok();
    let dropped: usize = told.iter().filter_map(number).sum();
    assert_eq!(kept + dropped, 505, "{told:?}");
    let (files, _, _) = desk.reading.as_ref().expect("it runs");
    assert_eq!(files.setup.room.stats.log_dropped(), dropped as u64);
    assert_eq!(desk.services.len(), 1, "told under the same service: {:?}", desk.services);
}

#[test]
fn rotating_a_flood_away_makes_no_room_for_more_of_it() {
    let mut desk = limited(&["*.log"], 10);
    for i in 0..8 {
        desk.write_to("app.log", 200);
        desk.look();
        desk.rename("app.log", &format!("app.log.{i}"));
    }
    (0..20).for_each(|_| desk.look());
    let kept = desk.lines.iter().filter(|line| line.starts_with("line ")).count();
    assert!((200..1_200).contains(&kept), "{kept} of {}", desk.written);
}

#[test]
fn what_was_written_while_nobody_read_is_no_flood() {
    let mut desk = limited(&["*.log"], 10);
    desk.write_to("app.log", 5);
    desk.look();
    // The collector is away.
    desk.reading = None;
    desk.write_to("app.log", 1_000);
    desk.start();
    desk.look();
    // The server is away, for ten minutes.
    let set_bytes = |desk: &mut Desk, bytes: u64| {
        let (files, _, _) = desk.reading.as_mut().expect("it runs");
        files.setup.room.spool_bytes_max = 100;
        files.setup.room.stats.set_spool_bytes(bytes);
    };
    set_bytes(&mut desk, 101);
    desk.look();
    desk.write_to("app.log", 6_000);
    desk.now += Duration::from_secs(600);
    desk.look();
    set_bytes(&mut desk, 100);
    desk.check();
}

#[test]
fn what_was_rotated_while_nobody_read_is_no_flood() {
    let mut desk = limited(&["*.log"], 10);
    desk.write_to("app.log", 5);
    desk.look();
    // The collector is away; both the renamed file and its successor hold more than a burst.
    desk.reading = None;
    desk.write_to("app.log", 500);
    desk.rename("app.log", "app.log.1");
    desk.write_to("app.log", 500);
    desk.start();
    desk.check();
}

#[test]
fn what_was_copied_and_truncated_while_the_server_was_away_is_no_flood() {
    let mut desk = limited(&["*.log"], 10);
    desk.write_to("app.log", 5);
    desk.look();
    let set_bytes = |desk: &mut Desk, bytes: u64| {
        let (files, _, _) = desk.reading.as_mut().expect("it runs");
        files.setup.room.spool_bytes_max = 100;
        files.setup.room.stats.set_spool_bytes(bytes);
    };
    set_bytes(&mut desk, 101);
    desk.look();
    desk.write_to("app.log", 4_000);
    desk.copy_and_truncate("app.log", "app.log.1");
    desk.write_to("app.log", 500);
    desk.now += Duration::from_secs(600);
    set_bytes(&mut desk, 100);
    // The successor was quiet for so long that it does not wait for the last line of the copy.
    desk.is_unordered = true;
    desk.check();
}

#[test]
fn what_a_container_writes_is_its_own_across_kills() {
    const ID: &str = "9f86d081884c7d659a2feaa0c55ad0159f86d081884c7d659a2feaa0c55ad015";
    for kills in [false, true] {
        let mut desk = Desk::new(&["containers/*/*-json.log"], kills);
        desk.of_containers = true;
        desk.kill();
        fs::create_dir_all(desk.at("containers").join(ID)).expect("made");
        let name = format!("containers/{ID}/{ID}-json.log");
        let config = r#"{"Name":"/web","ID":"x"}"#;
        fs::write(desk.at(&name).with_file_name("config.v2.json"), config).expect("written");
        let mut file = desk.open(&name);
        for i in 0..5 {
            let part = |log: &str, stream: &str| {
                format!(r#"{{"log":"{log}","stream":"{stream}","time":"2026-11-20T21:00:00Z"}}"#)
            };
            // Parted, with a look in between.
            writeln!(file, "{}", part("line ", "stdout")).expect("written");
            desk.look();
            writeln!(file, "{}", part(&format!("{i}\\n"), "stdout")).expect("written");
            desk.look();
        }
        desk.written = 5;
        (0..3).for_each(|_| desk.look());
        assert_eq!(desk.services, ["web".to_owned()].into());
        desk.check();
    }
}
