//! Connections of their own: logged in, cut in the middle, closed while idle.

use std::time::Duration;

use ratebox_kit::{Secret, Stopwatch};
use ratebox_testkit::{Certificates, RedisOptions, RedisServer, TcpProxy, TlsClients, wait_until};
use ratebox_valkey::{ClientCertificate, Error, Part, Requests, Settings, Tls, Valkey};

const SECOND: Duration = Duration::from_secs(1);

fn ping() -> Requests {
    let mut ping = Requests::new();
    ping.command("PING", |_| {});
    ping
}

async fn pings(valkey: &Valkey) -> Result<(), Error> {
    let mut link = valkey.blocking();
    for reply in link.exchange(&ping(), Duration::ZERO).await? {
        assert_eq!(reply?.parts().text()?, b"PONG");
    }
    Ok(())
}

#[tokio::test]
async fn replies_of_any_size_come_in_the_order_of_the_commands() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let valkey = Valkey::lazy(&crate::settings(&server.url())).unwrap();
    let mut link = valkey.blocking();
    for round in 0..3_usize {
        let large = vec![b'x'; 3_000_000 * round];
        let mut requests = Requests::new();
        requests.command("SET", |words| {
            words.key("large").word(&large);
        });
        requests.command("NONSENSE", |_| {});
        requests.command("GET", |words| {
            words.key("large");
        });
        requests.command("INCRBY", |words| {
            words.key("n").number(2);
        });
        requests.command("GET", |words| {
            words.key("missing");
        });
        let mut replies = link
            .exchange(&requests, Duration::ZERO)
            .await
            .unwrap()
            .into_iter();
        let mut next = || replies.next().unwrap();
        assert_eq!(next().unwrap().parts().text().unwrap(), b"OK");
        assert!(matches!(next(), Err(Error::Command { code, .. }) if code == "ERR"));
        let got = next().unwrap();
        let shared = got.share(got.parts().text().unwrap());
        assert!(shared == large, "{} bytes", shared.len());
        let count = 2 * (round as i64 + 1);
        assert_eq!(next().unwrap().parts().next().unwrap(), Part::Number(count));
        assert_eq!(next().unwrap().parts().next().unwrap(), Part::Nothing);
        assert!(replies.next().is_none());
    }
}

#[tokio::test]
async fn user_password_and_database_are_told_in_the_greeting() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    server
        .command(&["ACL", "SETUSER", "bus", "on", ">p ss", "~*", "+@all"])
        .unwrap();
    let mut settings = crate::settings(&format!("{}/3", server.url()));
    settings.login.user = "bus".to_owned();
    settings.login.password = Secret::new("p ss");
    let valkey = Valkey::lazy(&settings).unwrap();
    let mut info = Requests::new();
    info.command("CLIENT", |words| {
        words.word("INFO");
    });
    let mut link = valkey.blocking();
    let mut replies = link.exchange(&info, Duration::ZERO).await.unwrap();
    let reply = replies.remove(0).unwrap();
    let told = String::from_utf8(reply.parts().text().unwrap().to_vec()).unwrap();
    for word in ["user=bus", "db=3", "resp=3"] {
        assert!(told.contains(word), "{told}");
    }
    settings.login.password = Secret::new("hunter2");
    let error = pings(&Valkey::lazy(&settings).unwrap()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Denied { code } if code == "WRONGPASS"),
        "{error:?}"
    );
    assert!(!error.is_retryable() && !format!("{error:?} {error}").contains("hunter2"));
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_dialled_anew_before_the_next_command() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let valkey = Valkey::lazy(&crate::settings(&server.url())).unwrap();
    let mut link = valkey.blocking();
    for _ in 0..3 {
        link.exchange(&ping(), Duration::ZERO).await.unwrap();
        server
            .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
            .unwrap();
        // The system tells of it at once on this machine, but not within the same instant.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    link.exchange(&ping(), Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_reply_that_breaks_off_is_a_lost_connection_and_the_next_call_dials() {
    let mut server = RedisServer::start(RedisOptions::default()).unwrap();
    let valkey = Valkey::lazy(&crate::settings(&server.url())).unwrap();
    let mut link = valkey.blocking();
    link.exchange(&ping(), Duration::ZERO).await.unwrap();
    let mut wait = Requests::new();
    wait.command("BLPOP", |words| {
        words.key("nothing").number(5);
    });
    let (lost, ()) = tokio::join!(link.exchange(&wait, SECOND * 5), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.kill9();
    });
    let error = lost.unwrap_err();
    assert!(matches!(error, Error::Connection { .. }), "{error:?}");
    let watch = Stopwatch::start();
    let error = link.exchange(&ping(), Duration::ZERO).await.unwrap_err();
    assert!(error.is_retryable() && watch.elapsed() < SECOND / 2);
    server.restart().unwrap();
    let back = Stopwatch::start();
    while link.exchange(&ping(), Duration::ZERO).await.is_err() {
        assert!(back.elapsed() < SECOND, "it did not come back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_no_reply_for_the_next() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let valkey = Valkey::lazy(&crate::settings(&server.url())).unwrap();
    let mut link = valkey.blocking();
    let mut wait = Requests::new();
    wait.command("BLPOP", |words| {
        words.key("nothing").number(1);
    });
    for _ in 0..3 {
        let call = link.exchange(&wait, SECOND);
        assert!(tokio::time::timeout(SECOND / 20, call).await.is_err());
        let replies = link.exchange(&ping(), Duration::ZERO).await.unwrap();
        let pong = replies.into_iter().next().unwrap().unwrap();
        assert_eq!(pong.parts().text().unwrap(), b"PONG");
    }
}

#[tokio::test]
async fn a_link_that_swallows_everything_is_given_up() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let proxy = TcpProxy::to(server.port()).unwrap();
    let settings = crate::settings(&proxy.url(&server.url()));
    let valkey = Valkey::lazy(&settings).unwrap();
    let mut link = valkey.blocking();
    link.exchange(&ping(), Duration::ZERO).await.unwrap();
    proxy.black_hole();
    let watch = Stopwatch::start();
    let error = link.exchange(&ping(), Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    assert!(watch.elapsed() >= SECOND * 5, "entries may be handed out");
    proxy.resume();
    wait_until(SECOND * 2, "it serves again", || async {
        pings(&valkey).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn over_tls_both_ends_prove_who_they_are() {
    let certificates = Certificates::new("DNS:bus.internal").unwrap();
    let options = RedisOptions::default().tls(&certificates, TlsClients::NeedCertificate);
    let server = RedisServer::start(options).unwrap();
    let showing = |ca: Option<String>, name: &str| Tls {
        ca,
        client: Some(ClientCertificate {
            certificate: certificates.pem("client.pem"),
            key: Secret::new(certificates.pem("client.key")),
        }),
        server_name: Some(name.to_owned()),
    };
    let with = |tls| Settings {
        tls,
        ..crate::settings(&server.tls_url("127.0.0.1"))
    };
    let ca = || Some(certificates.pem("ca.pem"));
    let valkey = Valkey::lazy(&with(showing(ca(), "bus.internal"))).unwrap();
    pings(&valkey).await.unwrap();

    let mut link = valkey.blocking();
    let large = vec![b'x'; 2_000_000];
    let mut requests = Requests::new();
    requests.command("SET", |words| {
        words.key("large").word(&large);
    });
    requests.command("GET", |words| {
        words.key("large");
    });
    for _ in 0..3 {
        let replies = link.exchange(&requests, Duration::ZERO).await.unwrap();
        let got = replies.into_iter().next_back().unwrap().unwrap();
        assert!(got.parts().text().unwrap() == large);
    }
    server
        .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
        .unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    link.exchange(&requests, Duration::ZERO).await.unwrap();

    for (tls, hint) in [
        (showing(None, "bus.internal"), "UnknownIssuer"),
        (showing(ca(), "other.internal"), "not valid for name"),
        (
            Tls {
                client: None,
                ..showing(ca(), "bus.internal")
            },
            "",
        ),
    ] {
        let error = pings(&Valkey::lazy(&with(tls)).unwrap()).await.unwrap_err();
        assert!(
            error.is_retryable() && error.to_string().contains(hint),
            "{error:?}"
        );
    }
    let plain = server.url().replace("redis://", "rediss://");
    let wrong_port = Settings {
        tls: showing(ca(), "bus.internal"),
        ..crate::settings(&plain)
    };
    let error = pings(&Valkey::lazy(&wrong_port).unwrap())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("does it speak TLS"), "{error:?}");
}
