//! Hearing of changes on the connection that carries the commands.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ratebox_testkit::{RedisOptions, RedisServer, TcpProxy, wait_until};
use ratebox_valkey::{Observer, Script, Valkey};
use redis::cmd;

use crate::settings;

const SOON: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(1);

/// Writes down what it hears.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Heard {
    fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Heard {
    fn changed(&self, key: &[u8]) {
        self.add(String::from_utf8_lossy(key));
    }

    fn flushed(&self) {
        self.add("flushed");
    }

    fn lost(&self) {
        self.add("lost");
    }
}

async fn listening(url: &str) -> (Valkey, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let valkey = Valkey::lazy(&settings(url)).unwrap();
    let tracked = valkey.tracked(&["a:", "b:"], Arc::clone(&heard) as _, TIMEOUT);
    tracked.ping().await.unwrap();
    assert_eq!(heard.take(), ["lost"], "the first connection replaces none");
    (tracked, heard)
}

async fn set(valkey: &Valkey, key: &str) {
    let mut set = cmd("SET");
    set.arg(key).arg("v");
    valkey.query(&set).await.unwrap();
}

#[tokio::test]
async fn changes_by_others_are_heard_before_the_next_answer_and_own_ones_are_not() {
    for options in [RedisOptions::default(), RedisOptions::valkey()] {
        let server = RedisServer::start(options).unwrap();
        let (tracked, heard) = listening(&server.url()).await;
        let other = Valkey::lazy(&settings(&server.url())).unwrap();
        for key in ["a:1", "b:2", "c:3"] {
            set(&other, key).await;
        }
        tracked.ping().await.unwrap();
        assert_eq!(heard.take(), ["a:1", "b:2"]);
        set(&tracked, "a:own").await;
        tracked.ping().await.unwrap();
        assert!(heard.take().is_empty());
        other.query(&cmd("FLUSHALL")).await.unwrap();
        tracked.ping().await.unwrap();
        assert!(heard.take().contains(&"flushed".to_owned()));
    }
}

/// Not as one would like it; whoever writes by scripts must know.
#[tokio::test]
async fn what_a_script_of_ours_writes_is_echoed() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let (tracked, heard) = listening(&server.url()).await;
    let script = Script::new("return redis.call('SET', KEYS[1], 'v')");
    tracked.run(&script.call().key("a:own")).await.unwrap();
    tracked.ping().await.unwrap();
    assert_eq!(heard.take(), ["a:own"]);
}

#[tokio::test]
async fn the_loss_of_the_connection_is_told_and_the_next_one_hears_again() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let proxy = TcpProxy::to(server.port()).unwrap();
    let (tracked, heard) = listening(&proxy.url(&server.url())).await;
    proxy.cut_once();
    wait_until(SOON, "the loss is told", || async {
        heard.take().contains(&"lost".to_owned())
    })
    .await;
    wait_until(SOON, "it is back", || async {
        tracked.ping().await.is_ok()
    })
    .await;
    heard.take();
    let other = Valkey::lazy(&settings(&server.url())).unwrap();
    set(&other, "a:1").await;
    tracked.ping().await.unwrap();
    assert_eq!(heard.take(), ["a:1"]);
}
