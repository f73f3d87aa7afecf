//! Names to addresses, on threads of their own: the system's resolver blocks for ten seconds and more when a name's
//! servers are dead, and nobody but the callers of that name shall wait for it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Names looked up at once: so many may have dead servers before others wait.
const THREADS_MAX: usize = 8;
/// Names that wait for a thread. Beyond it a lookup fails at once.
const WAITING_MAX: usize = 64;

type Name = (String, u16);
type Found = Result<Vec<SocketAddr>, Arc<io::Error>>;
type Resolve = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The lookups of one data thread.
///
/// Calls for the same name share the lookup under way; nothing is remembered after it. Threads live only while there is
/// something to look up.
pub(super) struct Lookups(Arc<Desk>);

struct Desk {
    resolve: Box<Resolve>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Who waits for a name, looked up or waiting.
    asked: HashMap<Name, watch::Sender<Option<Found>>>,
    waiting: VecDeque<Name>,
    threads: usize,
}

impl Lookups {
    /// Asks the system.
    pub(super) fn of_system() -> Self {
        Self::by(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }

    pub(super) fn by(resolve: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Desk { resolve: Box::new(resolve), state: Mutex::default() }))
    }

    /// The addresses of a host, which may be an address itself.
    ///
    /// # Errors
    /// What the system says, or that too many names are being looked up.
    pub(super) async fn find(&self, host: &str, port: u16) -> Found {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let mut answer = self.ask((host.to_owned(), port)).map_err(Arc::new)?;
        let found = answer.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        found.unwrap_or_else(|| Err(Arc::new(io::Error::other("the lookup was given up"))))
    }

    fn ask(&self, name: Name) -> io::Result<watch::Receiver<Option<Found>>> {
        let mut state = self.0.lock();
        if let Some(asked) = state.asked.get(&name) {
            return Ok(asked.subscribe());
        }
        if state.waiting.len() >= WAITING_MAX {
            state.forget_unwanted();
        }
        if state.threads < THREADS_MAX {
            let (desk, first) = (self.0.clone(), name.clone());
            std::thread::Builder::new().name("troupe-lookup".to_owned()).spawn(move || desk.work(first))?;
            state.threads += 1;
        } else if state.waiting.len() < WAITING_MAX {
            state.waiting.push_back(name.clone());
        } else {
            return Err(io::Error::other("too many names are being looked up"));
        }
        let (asked, answer) = watch::channel(None);
        state.asked.insert(name, asked);
        Ok(answer)
    }
}

impl Desk {
    /// The life of a thread: looks names up until none waits.
    fn work(&self, first: Name) {
        let mut next = Some(first);
        while let Some(name) = next {
            let found = (self.resolve)(&name.0, name.1).map_err(Arc::new);
            let mut state = self.lock();
            if let Some(asked) = state.asked.remove(&name) {
                asked.send_replace(Some(found));
            }
            next = state.take();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next name that somebody still waits for; without one, the thread that asks ends.
    fn take(&mut self) -> Option<Name> {
        self.forget_unwanted();
        let next = self.waiting.pop_front();
        if next.is_none() {
            self.threads -= 1;
        }
        next
    }

    /// Forgets the names whose callers have all lost patience before a thread got to them.
    fn forget_unwanted(&mut self) {
        let Self { asked, waiting, .. } = self;
        waiting.retain(|name| {
            let is_wanted = asked.get(name).is_some_and(|asked| asked.receiver_count() > 0);
            if !is_wanted {
                asked.remove(name);
            }
            is_wanted
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    /// Names that begin with `dead` are stuck until the sender is dropped; each lookup begun is told.
    fn with_dead_names() -> (Arc<Lookups>, mpsc::SyncSender<()>, Arc<Mutex<Vec<String>>>) {
        let (release, held) = mpsc::sync_channel::<()>(0);
        let (held, begun) = (Mutex::new(held), Arc::new(Mutex::new(Vec::new())));
        let told = begun.clone();
        let lookups = Lookups::by(move |host, port| {
            told.lock().unwrap().push(host.to_owned());
            if host.starts_with("dead") {
                assert!(held.lock().unwrap().recv().is_err());
                return Err(io::Error::other("no servers could be reached"));
            }
            Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
        });
        (Arc::new(lookups), release, begun)
    }

    fn ask(lookups: &Arc<Lookups>, host: String) -> tokio::task::JoinHandle<Found> {
        let lookups = lookups.clone();
        tokio::spawn(async move { lookups.find(&host, 80).await })
    }

    async fn until(what: impl Fn() -> bool) {
        let reached = async {
            while !what() {
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, reached).await.unwrap();
    }

    #[test]
    fn names_with_dead_servers_stall_neither_other_names_nor_other_work() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let (lookups, release, begun) = with_dead_names();
            let dead: Vec<_> = (1..THREADS_MAX).map(|n| ask(&lookups, format!("dead-{n}"))).collect();
            until(|| begun.lock().unwrap().len() == dead.len()).await;

            let alive = timeout(LONG, lookups.find("alive", 80)).await.unwrap();
            let offloaded = timeout(LONG, tokio::task::spawn_blocking(|| 1)).await.unwrap();

            assert_eq!(alive.unwrap(), [SocketAddr::from(([127, 0, 0, 1], 80))]);
            assert_eq!(offloaded.unwrap(), 1);
            drop(release);
            for found in dead {
                assert!(timeout(LONG, found).await.unwrap().unwrap().is_err());
            }
        });
    }

    #[tokio::test]
    async fn calls_for_one_name_share_one_lookup_and_the_next_looks_again() {
        let (lookups, release, begun) = with_dead_names();

        let calls: Vec<_> = (0..100).map(|_| ask(&lookups, "dead".to_owned())).collect();
        let waiters = |state: &State| state.asked.values().map(watch::Sender::receiver_count).sum::<usize>();
        until(|| waiters(&lookups.0.lock()) == 100).await;
        drop(release);
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap_err().to_string(), "no servers could be reached");
        }
        assert_eq!(begun.lock().unwrap().len(), 1);

        assert!(lookups.find("dead", 80).await.is_err());
        assert_eq!(begun.lock().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_drops_whom_nobody_waits_for() {
        let (lookups, release, begun) = with_dead_names();
        let stuck: Vec<_> = (0..THREADS_MAX).map(|n| ask(&lookups, format!("dead-{n}"))).collect();
        until(|| begun.lock().unwrap().len() == THREADS_MAX).await;
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|n| ask(&lookups, format!("name-{n}"))).collect();
        until(|| lookups.0.lock().waiting.len() == WAITING_MAX).await;

        let refused = timeout(LONG, lookups.find("one-more", 80)).await.unwrap();
        let address = timeout(LONG, lookups.find("::1", 80)).await.unwrap();

        assert_eq!(refused.unwrap_err().to_string(), "too many names are being looked up");
        assert_eq!(address.unwrap(), ["[::1]:80".parse().unwrap()]);

        // Only the first is still wanted when a thread gets to it; the others make room.
        for call in waiting.split_off(1) {
            call.abort();
            assert!(call.await.unwrap_err().is_cancelled());
        }
        let late = ask(&lookups, "name-late".to_owned());
        until(|| lookups.0.lock().waiting.len() == 2).await;
        drop(release);
        for call in stuck {
            assert!(call.await.unwrap().is_err());
        }
        assert!(late.await.unwrap().is_ok());
        until(|| lookups.0.lock().threads == 0).await;
        let looked_up: HashSet<_> = begun.lock().unwrap().drain(..).filter(|name| name.starts_with("name")).collect();
        assert_eq!(looked_up, HashSet::from(["name-0", "name-late"].map(str::to_owned)));
        assert!(lookups.0.lock().asked.is_empty());
    }
}
