//! What the machine is about to do, as systemd-logind tells it: sleep, end, or start anew.
//!
//! Only listens, and holds sleep up for the moment that it takes to tell the aggregator (an "inhibitor
//! lock" of kind delay). Where there is no logind, nothing is known, and nothing is claimed.

use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use bus::{Bus, Call, Message};

mod bus;
#[cfg(test)]
mod tests;

const LOGIND: &str = "org.freedesktop.login1";
const MANAGER: Call<'static> = Call {
    to: LOGIND,
    path: "/org/freedesktop/login1",
    interface: "org.freedesktop.login1.Manager",
    member: "Inhibit",
};
/// How long sleep is held up at most. The user's lid is closed already.
const HOLD_MAX: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// After the bus was lost, or found missing.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(60);
const STACK_BYTES: usize = 128 * 1024;

/// What is known of the machine's near future.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// Nothing else was said.
    #[default]
    Stays,
    Sleeps,
    GoesDown,
    Reboots,
}

/// Follows logind on a thread of its own, from its start until it is dropped.
#[derive(Debug)]
pub(crate) struct Power {
    shared: Arc<Shared>,
    /// Dropped to end the thread where it waits.
    _stop: Sender<()>,
}

#[derive(Debug)]
struct Shared {
    outlook: watch::Sender<Outlook>,
    suspend_told: Arc<AtomicBool>,
    /// Shut down to end the thread where it reads. Locked for as long as it takes to replace it.
    stream: Mutex<Option<UnixStream>>,
    ended: AtomicBool,
}

impl Power {
    /// `outlook` is kept up to date. Sleep waits until `suspend_told` is set, and `is_delivered` says that
    /// it got there; but not for long.
    pub(crate) fn follow(
        socket: PathBuf,
        outlook: watch::Sender<Outlook>,
        suspend_told: Arc<AtomicBool>,
        is_delivered: impl Fn() -> bool + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            outlook,
            suspend_told,
            stream: Mutex::new(None),
            ended: AtomicBool::new(false),
        });
        let (stop, stopped) = channel();
        let follower = Follower { socket, shared: Arc::clone(&shared), stopped, is_delivered };
        let thread = std::thread::Builder::new().name("power".to_owned()).stack_size(STACK_BYTES);
        if let Err(error) = thread.spawn(move || follower.run()) {
            tracing::warn!(%error, "cannot follow the machine's sleep and shutdown");
        }
        Self { shared, _stop: stop }
    }
}

impl Drop for Power {
    fn drop(&mut self) {
        self.shared.ended.store(true, Relaxed);
        let stream = self.shared.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(stream) = stream {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Where the system's message bus listens.
pub(crate) fn system_bus() -> PathBuf {
    let named = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok();
    let named = named.as_deref().and_then(|address| address.strip_prefix("unix:path="));
    let path = named.map(|path| path.split([',', ';']).next().unwrap_or(path));
    path.unwrap_or("/run/dbus/system_bus_socket").into()
}

struct Follower<F> {
    socket: PathBuf,
    shared: Arc<Shared>,
    stopped: Receiver<()>,
    is_delivered: F,
}

impl<F: Fn() -> bool> Follower<F> {
    fn run(self) {
        loop {
            let Err(error) = self.listen(&self.socket);
            // What was announced is not known to be true any more, but for an end, which also takes the
            // bus away.
            self.shared.outlook.send_if_modified(|outlook| {
                let slept = *outlook == Outlook::Sleeps;
                if slept {
                    *outlook = Outlook::Stays;
                }
                slept
            });
            tracing::debug!(%error, "sleep and shutdown are not told here");
            match self.stopped.recv_timeout(TRY_AGAIN_AFTER) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Until the bus or logind goes away.
    fn listen(&self, socket: &Path) -> io::Result<std::convert::Infallible> {
        let mut bus = Bus::connect(socket)?;
        let stream = bus.stream()?;
        *self.shared.stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
        if self.shared.ended.load(Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        bus.listen("type='signal',interface='org.freedesktop.login1.Manager'")?;
        bus.listen(
            "type='signal',interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='org.freedesktop.login1'",
        )?;
        let (mut lock, logind) = hold_sleep_up(&mut bus)?;
        loop {
            let signal = bus.signal()?;
            if signal.sender == "org.freedesktop.DBus" && signal.member == "NameOwnerChanged" {
                return Err(io::Error::other("logind was restarted"));
            }
            // Anybody may send such a signal; only one is believed.
            if signal.sender != logind {
                continue;
            }
            let Some(outlook) = outlook_of(&signal) else { continue };
            // That the machine goes down is said twice, the second time without saying how.
            let before = *self.shared.outlook.borrow();
            if before == outlook || (before, outlook) == (Outlook::Reboots, Outlook::GoesDown) {
                continue;
            }
            self.shared.outlook.send_replace(outlook);
            tracing::info!(?outlook, "the machine's outlook changed");
            match outlook {
                Outlook::Sleeps => {
                    self.wait_until_told();
                    drop(lock.take());
                }
                Outlook::Stays if before == Outlook::Sleeps => lock = hold_sleep_up(&mut bus)?.0,
                _ => {}
            }
        }
    }

    fn wait_until_told(&self) {
        let deadline = Instant::now() + HOLD_MAX;
        // Between the telling and the first look at what is delivered the item may be on its way.
        let mut delivered = false;
        while Instant::now() < deadline {
            let now = self.shared.suspend_told.load(Relaxed) && (self.is_delivered)();
            if now && delivered {
                return;
            }
            delivered = now;
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// A lock that delays sleep while it is open, if logind gives one, and who logind is on this bus.
fn hold_sleep_up(bus: &mut Bus) -> io::Result<(Option<OwnedFd>, String)> {
    let arguments = ["sleep", "Muster", "the server is told that the machine sleeps", "delay"];
    // The answer to a call can come from nobody else than who was called.
    let answer = bus.call(MANAGER, &arguments)?;
    Ok((bus.take_descriptor(), answer.sender))
}

/// What a signal of logind says, when it is about the machine.
fn outlook_of(signal: &Message) -> Option<Outlook> {
    let begins = signal.first_bool()?;
    let announced = match signal.member.as_str() {
        "PrepareForSleep" => Outlook::Sleeps,
        // Comes before the one without a table; systemd 255 and later.
        "PrepareForShutdownWithMetadata" => match signal.text_in_table("type") {
            Some("reboot" | "soft-reboot" | "kexec") => Outlook::Reboots,
            _ => Outlook::GoesDown,
        },
        "PrepareForShutdown" => Outlook::GoesDown,
        _ => return None,
    };
    Some(if begins { announced } else { Outlook::Stays })
}
