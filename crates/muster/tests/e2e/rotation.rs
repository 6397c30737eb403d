//! Twelve things that are done to log files while they are written, by a collector and a server that are killed
//! again and again: every line is found once, in its order.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::v1;
use proto::v1::log_service_client::LogServiceClient;
use tonic::transport::Channel;

use crate::cluster::{Cluster, PATIENCE, channel, logged};
use crate::eventually::eventually;
use crate::random::Random;

/// What is done to a file, and the name of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Grow,
    Rename,
    /// The writer goes on in the renamed file for a while.
    RenameUnderWriter,
    /// `.1` becomes `.2` before the file becomes `.1`, and the glob finds all of them.
    RenameInChain,
    CopyAndTruncate,
    /// Copies with dates, and the glob finds them.
    CopyByDate,
    /// Of what was read.
    Truncate,
    /// Of what was read; a file of the same name comes at once.
    Delete,
    /// Another file is moved into its place, as editors and configuration tools do.
    Replace,
    /// A link leads to another file each time, when the one before was read.
    Link,
    /// A file of a new name each time.
    Another,
    /// The last line is whole a while later.
    Partial,
}

const DEEDS: [(Deed, &str, &str); 12] = [
    (Deed::Grow, "grow", "app.log"),
    (Deed::Rename, "rename", "app.log"),
    (Deed::RenameUnderWriter, "writer", "app.log"),
    (Deed::RenameInChain, "chain", "app.log*"),
    (Deed::CopyAndTruncate, "copy", "app.log"),
    (Deed::CopyByDate, "date", "app.log*"),
    (Deed::Truncate, "truncate", "app.log"),
    (Deed::Delete, "delete", "app.log"),
    (Deed::Replace, "replace", "app.log"),
    (Deed::Link, "link", "app.log"),
    (Deed::Another, "another", "*.log"),
    (Deed::Partial, "partial", "app.log"),
];
const ROUNDS: u32 = 12;
const LINES: u32 = 40;

/// A program that logs.
struct Writer {
    deed: Deed,
    service: &'static str,
    dir: PathBuf,
    file: File,
    written: u32,
    round: u32,
}

impl Writer {
    fn new(root: &Path, deed: Deed, service: &'static str) -> Self {
        let dir = root.join(service);
        let first = match deed {
            Deed::Link => dir.join("0.txt"),
            _ => dir.join("app.log"),
        };
        let file = open(&first);
        if deed == Deed::Link {
            std::os::unix::fs::symlink(&first, dir.join("app.log")).expect("linked");
        }
        Self { deed, service, dir, file, written: 0, round: 0 }
    }

    fn write(&mut self, count: u32) {
        for _ in 0..count {
            let line = format!("{} line {}\n", self.service, self.written);
            // In two pieces, as a busy program's lines come.
            let (one, other) = line.split_at(line.len() / 2);
            self.file.write_all(one.as_bytes()).expect("written");
            self.file.write_all(other.as_bytes()).expect("written");
            self.written += 1;
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Whether the deed takes away what nobody could read afterwards.
    fn destroys(&self) -> bool {
        matches!(self.deed, Deed::Truncate | Deed::Delete | Deed::Replace | Deed::Link)
    }

    fn copies(&self) -> bool {
        matches!(self.deed, Deed::CopyAndTruncate | Deed::CopyByDate)
    }

    /// Waits until the last line is found, whoever is killed meanwhile.
    async fn is_read(&self, url: &str) {
        let client = LogServiceClient::new(channel(url).await);
        let last = format!("{} line {}", self.service, self.written - 1);
        let query = format!("service:{}", self.service);
        let request = v1::SearchRequest { query, page_size: 1, ..Default::default() };
        eventually(PATIENCE * 2, || {
            let (mut client, request, last) = (client.clone(), request.clone(), &last);
            async move {
                let answer = client.search(request).await.map_err(|status| status.to_string())?;
                let newest = answer.into_inner().entries.into_iter().next();
                let newest = newest.map(|entry| entry.body).unwrap_or_default();
                let is_it = newest == *last;
                is_it.then_some(()).ok_or_else(|| format!("the newest is {newest:?}, not {last:?}"))
            }
        })
        .await;
    }

    fn rotate(&mut self) {
        self.round += 1;
        let (log, round) = (self.at("app.log"), self.round);
        match self.deed {
            Deed::Grow => {}
            Deed::Rename => {
                fs::rename(&log, self.at(&format!("app.log.{round}"))).expect("renamed");
                self.file = open(&log);
            }
            Deed::RenameUnderWriter => {
                fs::rename(&log, self.at(&format!("app.log.{round}"))).expect("renamed");
                self.write(LINES);
                self.file = open(&log);
            }
            Deed::RenameInChain => {
                for old in (1..round).rev() {
                    let name = |number: u32| self.at(&format!("app.log.{number}"));
                    fs::rename(name(old), name(old + 1)).expect("renamed");
                }
                fs::rename(&log, self.at("app.log.1")).expect("renamed");
                self.file = open(&log);
            }
            Deed::CopyAndTruncate => self.copy(&format!("app.log.{round}")),
            Deed::CopyByDate => self.copy(&format!("app.log-202611{:02}", round + 1)),
            Deed::Truncate => self.file.set_len(0).expect("cut"),
            Deed::Delete => {
                fs::remove_file(&log).expect("deleted");
                self.file = open(&log);
            }
            Deed::Replace => {
                let new = self.at("new");
                self.file = open(&new);
                self.write(1);
                fs::rename(&new, &log).expect("replaced");
            }
            Deed::Link => {
                let next = self.at(&format!("{round}.txt"));
                self.file = open(&next);
                self.write(1);
                let link = self.at("link");
                std::os::unix::fs::symlink(&next, &link).expect("linked");
                fs::rename(&link, &log).expect("replaced");
            }
            Deed::Another => self.file = open(&self.at(&format!("app-{round}.log"))),
            Deed::Partial => {
                write!(self.file, "{} line", self.service).expect("written");
                std::thread::sleep(Duration::from_millis(700));
                writeln!(self.file, " {}", self.written).expect("written");
                self.written += 1;
            }
        }
    }

    fn copy(&mut self, to: &str) {
        fs::copy(self.at("app.log"), self.at(to)).expect("copied");
        self.file.set_len(0).expect("cut");
    }
}

fn open(path: &Path) -> File {
    File::options().create(true).append(true).open(path).expect("opens")
}

/// Every line of each service, in the order in which history has them.
async fn found(channel: Channel) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for v1::LogEntry { service, body, .. } in logged(channel, "line").await {
        found.entry(service).or_default().push(body);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_is_found_once_and_in_order_whatever_is_done_to_files_and_processes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut settings = "[collector.logs]\n".to_owned();
    for (_, name, glob) in DEEDS {
        fs::create_dir(dir.path().join(name)).expect("made");
        let include = dir.path().join(name).join(glob);
        settings += &format!(
            "[[collector.logs.files]]\ninclude = [{include:?}]\nservice = {name:?}\nstart = \"beginning\"\n"
        );
    }
    let mut cluster = Cluster::aggregator().await;
    let mut collector = cluster.collector_with(&settings, "web-1", &cluster.url());
    // What was rotated away before a glob was in use for the first time is none of its business.
    let bookmarks = cluster.dir().join("web-1/bookmarks.json");
    eventually(PATIENCE, || async {
        let text = fs::read_to_string(&bookmarks).unwrap_or_default();
        let is_in_use = DEEDS.iter().all(|(_, name, _)| text.contains(&format!("/{name}/")));
        is_in_use.then_some(()).ok_or_else(|| "the globs are not in use".to_owned())
    })
    .await;
    let writers = DEEDS.map(|(deed, name, _)| Writer::new(dir.path(), deed, name));
    let url = cluster.url();
    // Each writes at its own pace, on a thread of its own, whatever happens to who reads.
    let writing = writers.map(|mut writer| {
        let url = url.clone();
        tokio::spawn(async move {
            // What comes and goes before anything of it was read, with nobody there, is not known to anybody.
            writer.write(LINES / 2);
            writer.is_read(&url).await;
            for _ in 0..ROUNDS {
                writer.write(LINES / 2);
                // A copy is known by what was read of the file before.
                if writer.copies() {
                    writer.is_read(&url).await;
                }
                writer.write(LINES);
                // Whoever takes lines away that nobody read loses them by himself.
                if writer.destroys() {
                    writer.is_read(&url).await;
                }
                tokio::task::block_in_place(|| writer.rotate());
                tokio::time::sleep(Duration::from_millis(1_200)).await;
            }
            (writer.service, writer.written)
        })
    });
    let killing = async {
        let mut random = Random::from_environment();
        loop {
            tokio::time::sleep(random.moment(1_500, 4_000)).await;
            if random.below(3) == 0 {
                cluster.server.kill();
                cluster.restart().await;
            } else {
                collector.kill();
                collector = cluster.collector_with(&settings, "web-1", &cluster.url());
            }
        }
    };
    let written = tokio::select! {
        () = killing => unreachable!("it goes on for ever"),
        written = futures::future::join_all(writing) => written,
    };
    let written: BTreeMap<&str, u32> =
        written.into_iter().map(|writer| writer.expect("no panic")).collect();
    let channel = cluster.channel().await;
    let all: usize = written.values().map(|lines| *lines as usize).sum();
    eventually(PATIENCE, || {
        let (channel, written) = (channel.clone(), &written);
        async move {
            let found = found(channel).await;
            let count: usize = found.values().map(Vec::len).sum();
            (count >= all).then_some(()).ok_or_else(|| {
                let missing = |(service, lines): (&&str, &u32)| {
                    let found = found.get(*service).map_or(&[][..], Vec::as_slice);
                    let lines = (0..*lines).map(|i| format!("{service} line {i}"));
                    lines.filter(|line| !found.contains(line)).collect::<Vec<_>>()
                };
                let missing: Vec<String> = written.iter().flat_map(missing).collect();
                format!(
                    "{count} of {all} lines; of the rest {:?}",
                    &missing[..missing.len().min(300)]
                )
            })
        }
    })
    .await;
    let found = found(channel).await;
    for (service, written) in written {
        let expected: Vec<String> = (0..written).map(|i| format!("{service} line {i}")).collect();
        let mut found = found[service].clone();
        // Between files of different names there is no order.
        if service == "another" {
            found.sort_by_key(|line| (line.len(), line.clone()));
        }
        let same = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
        let around = &found[same.saturating_sub(2)..found.len().min(same + 5)];
        assert!(
            found == expected,
            "{service}: {} lines, {same} of {written} as written, then {around:?}",
            found.len()
        );
    }
}
