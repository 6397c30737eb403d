//! Real sockets, and messages as programs send them.

use std::sync::Arc;

use jiff::tz::TimeZone;
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::CollectorStats;
use crate::logs::LogBatch;

const PATIENCE: Duration = Duration::from_secs(60);

struct Desk {
    address: SocketAddr,
    batches: mpsc::Receiver<LogBatch>,
    stats: Arc<CollectorStats>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

fn start(per_second: u32) -> Desk {
    let stats = Arc::new(CollectorStats::default());
    let room = Room { spool_bytes_max: 100, stats: Arc::clone(&stats) };
    let address = "127.0.0.1:0".parse().expect("an address");
    let parser = Parser::new(TimeZone::UTC);
    let syslog = Syslog::bind(address, parser, Limits::new(per_second), room).expect("bound");
    let address = syslog.local_addr();
    let (sender, batches) = mpsc::channel(4);
    let stop = CancellationToken::new();
    let outbox = Outbox::new(sender, Arc::clone(&stats));
    let running = tokio::spawn(syslog.run(outbox, stop.clone()));
    Desk { address, batches, stats, stop, running }
}

impl Desk {
    /// Events until `until` of them have come.
    async fn events(&mut self, until: usize) -> Vec<LogEvent> {
        let mut events = Vec::new();
        while events.len() < until {
            let batch = tokio::time::timeout(PATIENCE, self.batches.recv()).await;
            events.extend(batch.expect("in time").expect("it runs").events);
        }
        events
    }

    async fn udp(&self, messages: impl IntoIterator<Item = String>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        for message in messages {
            socket.send_to(message.as_bytes(), self.address).await.expect("sent");
        }
    }
}

fn shown(event: &LogEvent) -> String {
    format!("{} {} {}", event.severity.number(), event.service, event.body)
}

#[tokio::test]
async fn messages_come_over_udp_and_over_tcp_in_both_framings() {
    let mut desk = start(0);
    desk.udp(["<11>Nov 20 20:59:59 web-1 shop[7]: order lost password=x1".to_owned()]).await;
    let events = desk.events(1).await;
    assert_eq!(shown(&events[0]), "17 shop order lost password=***");
    assert_eq!(events[0].source, "syslog");
    assert_eq!(events[0].attributes.get("host.name"), "web-1");

    let mut stream = TcpStream::connect(desk.address).await.expect("connects");
    let lines =
        "<14>1 - - api - - - one\n<14>1 - - api - - - two\n29 <14>1 - - api - - - three\nlin<";
    stream.write_all(lines.as_bytes()).await.expect("sent");
    let events = desk.events(3).await;
    assert_eq!(events.iter().map(|e| &*e.body).collect::<Vec<_>>(), ["one", "two", "three\nlin"]);
    // Its last message has no end.
    stream.write_all(b"9>half").await.expect("sent");
    drop(stream);
    let half = desk.events(1).await.remove(0);
    assert_eq!(shown(&half), "19 syslog half");
    desk.stop.cancel();
    desk.running.await.expect("it ends");
}

#[tokio::test]
async fn a_page_of_a_browser_is_hung_up_on() {
    let mut desk = start(0);
    let mut page = TcpStream::connect(desk.address).await.expect("connects");
    let request = b"POST / HTTP/1.1\r\nhost: x\r\n\r\n<11>1 - - forged - - - by a page\n";
    page.write_all(request).await.expect("sent");
    let hung_up = tokio::time::timeout(PATIENCE, page.read(&mut [0; 8])).await.expect("in time");
    assert!(matches!(hung_up, Ok(0) | Err(_)));
    desk.udp(["<14>1 - - api - - - good\r\n\0".to_owned()]).await;
    assert_eq!(shown(&desk.events(1).await[0]), "9 api good");
}

#[tokio::test]
async fn a_flood_is_limited_for_its_service_alone_and_told() {
    let mut desk = start(5);
    let flood = "<14>1 - - loud - - - noise\n".repeat(400) + "<14>1 - - quiet - - - word\n";
    let mut stream = TcpStream::connect(desk.address).await.expect("connects");
    stream.write_all(flood.as_bytes()).await.expect("sent");
    let (mut kept, mut told, mut quiet) = (0, 0, 0);
    while kept + told < 400 || quiet == 0 {
        for event in desk.events(1).await {
            match (&*event.service, event.attributes.get("muster.log.dropped")) {
                ("quiet", _) => quiet += 1,
                (_, "") => kept += 1,
                (_, dropped) => told += dropped.parse::<u64>().expect("a number"),
            }
        }
    }
    assert_eq!((kept + told, quiet), (400, 1));
    assert!(told > 100, "{told}");
    assert_eq!(desk.stats.log_dropped(), told);
}

#[tokio::test]
async fn without_room_connections_wait_and_datagrams_are_dropped_and_told() {
    let mut desk = start(0);
    desk.stats.set_spool_bytes(101);
    desk.udp((0..20).map(|i| format!("<14>1 - - api - - - datagram {i}"))).await;
    let mut stream = TcpStream::connect(desk.address).await.expect("connects");
    stream.write_all(b"<14>1 - - api - - - patient\n").await.expect("sent");
    let notice = desk.events(1).await.remove(0);
    assert_eq!(notice.service, "syslog");
    assert!(notice.body.contains("dropped here: there was no room"), "{}", notice.body);
    desk.stats.set_spool_bytes(0);
    let mut dropped: u64 = notice.attributes.get("muster.log.dropped").parse().expect("a number");
    let mut patient = 0;
    while patient == 0 || dropped < 20 {
        for event in desk.events(1).await {
            match event.attributes.get("muster.log.dropped") {
                "" => patient += 1,
                more => dropped += more.parse::<u64>().expect("a number"),
            }
        }
    }
    assert_eq!((patient, dropped), (1, 20));
}
