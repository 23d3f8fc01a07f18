//! The task behind a shared lock: asks for it, extends it while its guard lives, gives it back.
//!
//! It also stands between a caller that stops waiting and the server, so that no lock stays held
//! by nobody.

use std::time::Duration;

use ratebox_kit::Clock;
use ratebox_valkey::Error;
use tokio::sync::{oneshot, watch};

use super::LockSettings;
use super::leftovers::Leftovers;
use super::script::{Answer, Server};
use super::turn::Turn;

/// Of each lease, the part at its end that the holder does not count on: clocks run unevenly.
const MARGIN: u32 = 50;

/// Whether to wait for a lock that another holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    Once,
    UntilGiven,
}

/// How long the lock is surely ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// On this process' steady clock.
    until: Duration,
}

/// What the guard gets.
pub(super) struct Asked {
    pub(super) fence: u64,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) give_back: oneshot::Sender<oneshot::Sender<bool>>,
}

/// `None` when the lock is not free and nobody wants to wait.
type Told = Result<Option<Asked>, Error>;

/// Asks for one lock and keeps it.
pub(super) struct Keeper {
    server: Server,
    /// Kept until the lock is given back, so that the next in line finds it free.
    turn: Turn,
    settings: LockSettings,
    clock: Clock,
    leftovers: Leftovers,
    patience: Patience,
    caller: oneshot::Sender<Told>,
}

// === impl Standing ===

impl Standing {
    pub(super) fn is_over(self, now: Duration) -> bool {
        now >= self.until
    }

    pub(super) fn left(self, now: Duration) -> Duration {
        self.until.saturating_sub(now)
    }
}

// === impl Keeper ===

impl Keeper {
    pub(super) fn new(
        server: Server,
        turn: Turn,
        settings: LockSettings,
        clock: Clock,
        leftovers: Leftovers,
        patience: Patience,
    ) -> (Self, oneshot::Receiver<Told>) {
        let (caller, asked) = oneshot::channel();
        let keeper = Self {
            server,
            turn,
            settings,
            clock,
            leftovers,
            patience,
            caller,
        };
        (keeper, asked)
    }

    /// Ends when the lock was not given, was lost, or was given back.
    pub(super) async fn run(mut self) {
        let given = self.ask().await;
        let Self {
            server,
            turn,
            settings,
            clock,
            leftovers,
            caller,
            ..
        } = self;
        let lease = Lease {
            server: &server,
            length: settings.lease,
            leftovers: &leftovers,
        };
        let (fence, until) = match given {
            Ok(Some(given)) => given,
            Ok(None) => {
                // Fails when the caller is gone, which is why there is nothing.
                let _ = caller.send(Ok(None));
                return;
            }
            Err(error) => {
                // The server may have given it all the same.
                let tell = |_| drop(caller.send(Err(error)));
                return lease.give_back(turn, tell).await;
            }
        };
        let (tell, standing) = watch::channel(Standing { until });
        let (give, asked_back) = oneshot::channel();
        let guard = Asked {
            fence,
            standing,
            give_back: give,
        };
        if caller.send(Ok(Some(guard))).is_err() {
            return lease.give_back(turn, drop).await;
        }
        let asker = Held {
            server: &server,
            settings: &settings,
            clock: &clock,
            tell: &tell,
        }
        .keep(asked_back)
        .await;
        let answer = |was_ours| {
            let lost = tell.borrow().is_over(clock.steady_time());
            if let Some(asker) = asker {
                // Fails when nobody wants to know any more.
                let _ = asker.send(was_ours && !lost);
            }
        };
        lease.give_back(turn, answer).await;
    }

    /// Asks until the lock is given; nothing when it is not, or when the caller is gone.
    async fn ask(&mut self) -> Result<Option<(u64, Duration)>, Error> {
        loop {
            let asked_at = self.clock.steady_time();
            let left = match self.server.take().await? {
                Answer::Ours(fence) => {
                    return Ok(Some((fence, surely(asked_at, self.settings.lease))));
                }
                Answer::Taken(_) if self.patience == Patience::Once => return Ok(None),
                Answer::Taken(left) => left,
            };
            let pause = self.settings.poll.mul_f64(fastrand::f64());
            let pause = pause.min(left).max(Duration::from_millis(1));
            tokio::select! {
                () = self.caller.closed() => return Ok(None),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// What may stand on the server under the token.
struct Lease<'a> {
    server: &'a Server,
    length: Duration,
    leftovers: &'a Leftovers,
}

impl Lease<'_> {
    /// Gives back what the token holds, if anything, and tells whether it held the lock. Nobody
    /// waits longer than for one try.
    async fn give_back(self, turn: Turn, tell: impl FnOnce(bool)) {
        let answer = tokio::time::timeout(self.length, self.server.give_back()).await;
        drop(turn);
        tell(matches!(answer, Ok(Ok(true))));
        if !matches!(answer, Ok(Ok(_))) {
            self.leftovers.give_back(self.server, self.length).await;
        }
    }
}

/// The holder's side of a lease.
struct Held<'a> {
    server: &'a Server,
    settings: &'a LockSettings,
    clock: &'a Clock,
    tell: &'a watch::Sender<Standing>,
}

impl Held<'_> {
    /// Extends until the guard is gone or the lock is lost; then returns who asked for it back.
    async fn keep(
        self,
        mut asked_back: oneshot::Receiver<oneshot::Sender<bool>>,
    ) -> Option<oneshot::Sender<bool>> {
        let third = self.settings.lease / 3;
        let mut pause = third;
        loop {
            tokio::select! {
                asker = &mut asked_back => return asker.ok(),
                () = tokio::time::sleep(pause) => {}
            }
            let sent_at = self.clock.steady_time();
            let answer = tokio::select! {
                asker = &mut asked_back => return asker.ok(),
                answer = tokio::time::timeout(third, self.server.extend()) => answer,
            };
            pause = match answer {
                Ok(Ok(true)) if !self.is_over() => {
                    let until = surely(sent_at, self.settings.lease);
                    self.tell.send_replace(Standing { until });
                    third
                }
                // The server is away: again and again, until it is too late.
                Ok(Err(_)) | Err(_) if !self.is_over() => self.settings.lease / 10,
                // Another's, or ours again after the guard has said that it was lost.
                Ok(Ok(_) | Err(_)) | Err(_) => {
                    self.lose();
                    return asked_back.await.ok();
                }
            };
        }
    }

    fn is_over(&self) -> bool {
        self.tell.borrow().is_over(self.clock.steady_time())
    }

    fn lose(&self) {
        tracing::warn!("a lock was lost before it was given back");
        metrics::counter!("cache_locks_lost_total").increment(1);
        let until = Duration::ZERO;
        self.tell.send_replace(Standing { until });
    }
}

/// How long a lease that was asked for at `asked_at` is surely ours.
fn surely(asked_at: Duration, lease: Duration) -> Duration {
    asked_at + lease - lease / MARGIN
}
