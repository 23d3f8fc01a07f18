//! Locks by name: one holder at a time over all processes, or in this one.
//!
//! [`Locks::try_lock`] and [`Locks::lock`] give a [`LockGuard`]. A shared lock is a lease on a
//! Redis or Valkey server: a task of its own extends it at a third of its length for as long as the guard
//! lives, and gives it back when the guard is dropped. Waiters of one process are served in order
//! and only the first of them asks the server, with jitter; between processes there is no order.
//!
//! A lease can end under a holder that was stopped or cut off. The guard then says so
//! ([`LockGuard::is_lost`], [`LockGuard::lost`]), by this process' own clock and before the server gives the
//! lock to another. Between that check and a write anything can happen, so a write that must not
//! come late carries [`LockGuard::fence`], which grows with every holder; [`Fences`] refuses a
//! lower number in the database.
//!
//! Not offered: Redlock over several servers. It costs a round trip to each and still needs the
//! fencing number, which alone keeps a late writer out.

mod keeper;
mod leftovers;
mod script;
mod sql;
mod turn;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ratebox_kit::{Clock, Tasks};
use ratebox_valkey::Valkey;
use tokio::sync::{oneshot, watch};

use self::keeper::{Asked, Keeper, Patience, Standing};
use self::leftovers::Leftovers;
use self::script::Server;
use self::turn::{Turn, Turns};
use crate::Error;

pub use self::sql::Fences;

/// The least length of a lease.
const LEASE_MIN: Duration = Duration::from_millis(100);

/// The greatest: what ends further ahead is not believed. The script has the same ten minutes.
const LEASE_MAX: Duration = Duration::from_secs(600);

/// How long a lease is, and how a waiter asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockSettings {
    /// After this long without a sign of the holder another may take the lock. It is extended at
    /// a third of this. At least 100 ms, at most ten minutes.
    pub lease: Duration,
    /// A waiter asks again within this, drawn at random.
    pub poll: Duration,
}

/// Locks by name. Cheap to clone; clones share their waiting lines.
#[derive(Clone, Debug)]
pub struct Locks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    turns: Arc<Turns>,
    clock: Clock,
    kind: Kind,
}

enum Kind {
    /// The turn is the lock.
    Local { last_fence: AtomicU64 },
    Shared {
        valkey: Valkey,
        prefix: String,
        settings: LockSettings,
        leftovers: Leftovers,
        tasks: Tasks,
    },
}

/// A lock that is held. Dropped, it is given back.
#[derive(Debug)]
#[must_use = "a lock that is dropped is given back"]
pub struct LockGuard {
    name: String,
    fence: u64,
    clock: Clock,
    hold: Hold,
}

#[derive(Debug)]
enum Hold {
    Local {
        _turn: Turn,
    },
    Shared {
        standing: watch::Receiver<Standing>,
        give_back: oneshot::Sender<oneshot::Sender<bool>>,
    },
}

/// The lock went to somebody else, or may have, before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lock was lost before the work was done")]
pub struct Lost;

// === impl LockSettings ===

impl Default for LockSettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            poll: Duration::from_millis(50),
        }
    }
}

// === impl Locks ===

impl Locks {
    /// Locks of this process alone. They are never lost.
    pub fn local(clock: Clock) -> Self {
        let kind = Kind::Local {
            last_fence: AtomicU64::new(0),
        };
        Self::of(kind, clock)
    }

    /// Locks on a server, under keys that begin with `prefix`. Their keepers run as `tasks`.
    pub fn shared(
        valkey: Valkey,
        prefix: impl Into<String>,
        settings: LockSettings,
        clock: Clock,
        tasks: Tasks,
    ) -> Self {
        let settings = LockSettings {
            lease: settings.lease.clamp(LEASE_MIN, LEASE_MAX),
            ..settings
        };
        let kind = Kind::Shared {
            valkey,
            prefix: prefix.into(),
            settings,
            leftovers: Leftovers::new(tasks.shutdown()),
            tasks,
        };
        Self::of(kind, clock)
    }

    fn of(kind: Kind, clock: Clock) -> Self {
        let turns = Arc::default();
        Self {
            inner: Arc::new(Inner { turns, clock, kind }),
        }
    }

    /// Takes a lock that is free now; `None` when it is not.
    ///
    /// # Errors
    /// When the server cannot be reached. Should it have given the lock after all, the lock is
    /// given back as soon as the server is reached again, or ends with its lease.
    pub async fn try_lock(&self, name: &str) -> Result<Option<LockGuard>, Error> {
        match Turn::take(&self.inner.turns, name) {
            Some(turn) => self.ask(turn, name, Patience::Once).await,
            None => Ok(None),
        }
    }

    /// Waits for a lock, at most for `wait`; `None` when it was not free in time. Cancel-safe: a
    /// caller that stops waiting leaves nothing behind.
    ///
    /// # Errors
    /// As [`Locks::try_lock`].
    pub async fn lock(&self, name: &str, wait: Duration) -> Result<Option<LockGuard>, Error> {
        let waited = async {
            let turn = Turn::wait(&self.inner.turns, name).await;
            self.ask(turn, name, Patience::UntilGiven).await
        };
        tokio::time::timeout(wait, waited).await.unwrap_or(Ok(None))
    }

    /// Runs `work` while holding a lock. Work is dropped at its next pause when the lock is lost.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn run<T>(guard: LockGuard, work: impl Future<Output = T>) -> Result<T, Lost> {
        let done = tokio::select! {
            biased;
            () = guard.lost() => return Err(Lost),
            done = work => done,
        };
        guard.give_back().await;
        Ok(done)
    }

    async fn ask(
        &self,
        turn: Turn,
        name: &str,
        patience: Patience,
    ) -> Result<Option<LockGuard>, Error> {
        let Inner { clock, kind, .. } = &*self.inner;
        let (fence, hold) = match kind {
            Kind::Local { last_fence } => {
                (next_fence(last_fence, clock), Hold::Local { _turn: turn })
            }
            Kind::Shared {
                valkey,
                prefix,
                settings,
                leftovers,
                tasks,
            } => {
                let server = Server::new(valkey.clone(), format!("{prefix}{name}"), settings.lease);
                let (clock, leftovers) = (clock.clone(), leftovers.clone());
                let (keeper, asked) =
                    Keeper::new(server, turn, *settings, clock, leftovers, patience);
                tasks.spawn("lock keeper", keeper.run());
                let Some(Asked {
                    fence,
                    standing,
                    give_back,
                }) = asked.await.unwrap_or(Ok(None))?
                else {
                    return Ok(None);
                };
                let hold = Hold::Shared {
                    standing,
                    give_back,
                };
                (fence, hold)
            }
        };
        Ok(Some(LockGuard {
            name: name.to_owned(),
            fence,
            clock: clock.clone(),
            hold,
        }))
    }
}

/// Microseconds since 1970, or one more than the last: it grows over restarts, too.
fn next_fence(last: &AtomicU64, clock: &Clock) -> u64 {
    let now = u64::try_from(clock.now().as_microsecond()).unwrap_or(0);
    let before = last
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| {
            Some(now.max(last + 1))
        })
        .unwrap_or_else(|last| last);
    now.max(before + 1)
}

// === impl LockGuard ===

impl LockGuard {
    /// What is locked.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Greater than that of every earlier holder.
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Whether another may hold the lock now. Once true it stays true.
    pub fn is_lost(&self) -> bool {
        match &self.hold {
            Hold::Local { .. } => false,
            Hold::Shared { standing, .. } => standing.borrow().is_over(self.clock.steady_time()),
        }
    }

    /// Completes when the lock is lost; never for a local one. Cancel-safe.
    pub async fn lost(&self) {
        let Hold::Shared { standing, .. } = &self.hold else {
            return std::future::pending().await;
        };
        let mut standing = standing.clone();
        loop {
            let now = self.clock.steady_time();
            let left = {
                let standing = standing.borrow_and_update();
                if standing.is_over(now) {
                    return;
                }
                standing.left(now)
            };
            tokio::select! {
                changed = standing.changed() => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep(left) => {}
            }
        }
    }

    /// Gives the lock back and waits until it is free; false when it was lost before.
    pub async fn give_back(self) -> bool {
        match self.hold {
            Hold::Local { .. } => true,
            Hold::Shared { give_back, .. } => {
                let (tell, told) = oneshot::channel();
                give_back.send(tell).is_ok() && told.await.unwrap_or(false)
            }
        }
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Local { .. } => "Local",
            Self::Shared { .. } => "Shared",
        })
    }
}
