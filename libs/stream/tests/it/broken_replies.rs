//! A reply that breaks off in its middle: the server has handed the entries out by then.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{Clock, Message, Tasks};
use ratebox_stream::conformance::{Judge, Letters, done};
use ratebox_stream::{Append, Consumer, Entry, Handler, Lane, Outcome, Policy, RedisLog, stats};
use ratebox_testkit::{RedisOptions, RedisServer, wait_until};
use ratebox_valkey::{Settings, Valkey};

use crate::counted::Counted;

/// Stands before a server; cuts the first connection whose reply is long, in its middle.
struct Cutter {
    port: u16,
    cuts: Arc<AtomicUsize>,
}

impl Cutter {
    /// Lets `after` bytes of the long reply through.
    fn before(server: u16, after: usize) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let cuts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&cuts);
        std::thread::spawn(move || {
            let is_cut = Arc::new(AtomicBool::new(false));
            for client in listener.incoming() {
                let client = client.unwrap();
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)) else {
                    continue;
                };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || relay(from, to));
                let (is_cut, counted) = (Arc::clone(&is_cut), Arc::clone(&counted));
                std::thread::spawn(move || relay_until(&server, &client, after, &is_cut, &counted));
            }
        });
        Self { port, cuts }
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream) {
    let _ended = std::io::copy(&mut from, &mut to);
    let _closed = to.shutdown(Shutdown::Both);
}

fn relay_until(
    mut from: &TcpStream,
    mut to: &TcpStream,
    after: usize,
    is_cut: &AtomicBool,
    cuts: &AtomicUsize,
) {
    let mut bytes = vec![0; 1 << 20];
    while let Ok(count) = from.read(&mut bytes) {
        let is_long = count > 4_000;
        let through = match is_long && !is_cut.swap(true, Ordering::SeqCst) {
            true => after,
            false => count,
        };
        if count == 0 || to.write_all(&bytes[..through.min(count)]).is_err() {
            break;
        }
        if through != count {
            cuts.fetch_add(1, Ordering::SeqCst);
            break;
        }
    }
    let _closed = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}

/// Remembers every message that was done.
#[derive(Default)]
struct Ledger(Mutex<Vec<String>>);

#[async_trait]
impl Handler for Ledger {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        let ids = batch.iter().map(|entry| entry.message_id().into_owned());
        self.0.lock().unwrap().extend(ids);
        batch.into_iter().map(done).collect()
    }
}

#[tokio::test]
async fn what_was_handed_out_in_a_reply_that_broke_off_comes_back_at_once_and_once() {
    const COUNT: usize = 300;
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    for after in [1, 17, 1_000, 3_999] {
        let bed = crate::redis::on(&server.url());
        bed.append_many(Lane::Normal, COUNT).await;
        let sub = bed.member("a").await;
        let cutter = Cutter::before(server.port(), after);
        let url = format!("redis://127.0.0.1:{}", cutter.port);
        let log = Arc::new(RedisLog::new(Valkey::lazy(&Settings::new(url)).unwrap()));
        let ledger = Arc::new(Ledger::default());
        // Without recovery the entries would wait for the claim of the default policy: 12 s.
        let (policy, clock) = (Policy::default(), Clock::system());
        let consumer = Consumer::new(log, Letters::new(), sub, policy, clock);
        let (tasks, handler) = (Tasks::new(), ledger.clone());
        let of = tasks.clone();
        tasks.spawn("consumer", async move { consumer.run(handler, &of).await });
        wait_until(Duration::from_secs(6), "every message is done", || async {
            ledger.0.lock().unwrap().len() >= COUNT
        })
        .await;
        assert_eq!(
            cutter.cuts.load(Ordering::SeqCst),
            1,
            "cut after {after} bytes"
        );
        wait_until(Duration::from_secs(6), "all are acknowledged", || async {
            bed.pending("g").await == 0
        })
        .await;
        tasks.stop();
        assert!(tasks.join(Duration::from_secs(10)).await.is_empty());
        let mut seen = std::mem::take(&mut *ledger.0.lock().unwrap());
        let all = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!((all, seen.len()), (COUNT, COUNT), "each came once");
    }
}

/// The server took the entries from the dead member and found one gone; nobody heard of it.
#[tokio::test]
async fn a_loss_is_told_although_the_answer_of_the_claim_that_met_it_broke_off() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let bed = crate::redis::on(&server.url());
    let dead = bed.member("dead").await;
    let lost = bed.append(Lane::Normal, &["lost"]).await;
    // Long, so that the answer to the claim is the one that is cut.
    let kept = Append::new(bed.stream.clone(), Message::new("kept", "x".repeat(6_000)));
    bed.log.append(&[kept]).await.remove(0).unwrap();
    assert_eq!(bed.read(&dead, 2).await.len(), 2);
    bed.sabotage.lose_entry(&bed.stream, lost[0]).await;
    bed.pass(bed.idle()).await;
    let told = Counted::new(stats::MESSAGES_LOST);
    let _guard = metrics::set_default_local_recorder(&told);
    let cutter = Cutter::before(server.port(), 17);
    let url = format!("redis://127.0.0.1:{}", cutter.port);
    let log = Arc::new(RedisLog::new(Valkey::lazy(&Settings::new(url)).unwrap()));
    let (sub, clock) = (bed.member("a").await, Clock::system());
    let consumer = Consumer::new(log, Letters::new(), sub, bed.policy(), clock);
    let judge = Judge::new(|entry| Some(done(entry)));
    wait_until(Duration::from_secs(20), "nothing is pending", || async {
        // The step whose answer is cut is an error.
        let _ = consumer.step(&judge).await;
        bed.pending("g").await == 0
    })
    .await;
    assert_eq!(cutter.cuts.load(Ordering::SeqCst), 1);
    assert_eq!((told.count(), judge.seen().len()), (1, 1));
}
