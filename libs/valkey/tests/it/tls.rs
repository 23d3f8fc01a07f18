//! TLS: who is trusted, by which name, and what is said when it does not fit.

use std::time::Duration;

use ratebox_kit::Secret;
use ratebox_testkit::{Certificates, RedisOptions, RedisServer, TlsClients};
use ratebox_valkey::{ClientCertificate, Error, Settings, Tls, Valkey};

fn with(url: &str, tls: Tls) -> Settings {
    Settings {
        tls,
        ..crate::settings(url)
    }
}

fn trusting(certificates: &Certificates) -> Tls {
    Tls {
        ca: Some(certificates.pem("ca.pem")),
        ..Tls::default()
    }
}

fn showing(certificates: &Certificates) -> Tls {
    Tls {
        client: Some(ClientCertificate {
            certificate: certificates.pem("client.pem"),
            key: Secret::new(certificates.pem("client.key")),
        }),
        ..trusting(certificates)
    }
}

async fn refused(settings: &Settings) -> String {
    let error = Valkey::connect(settings).await.unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
    assert!(error.is_retryable(), "certificates can be put right");
    error.to_string()
}

#[tokio::test]
async fn a_server_is_trusted_by_its_ca_and_its_name() {
    let certificates = Certificates::new("DNS:localhost").unwrap();
    let options = RedisOptions::default().tls(&certificates, TlsClients::MayShowOne);
    let server = RedisServer::start(options).unwrap();
    let url = server.tls_url("localhost");
    let valkey = Valkey::connect(&with(&url, trusting(&certificates)))
        .await
        .unwrap();
    let mut ask = redis::cmd("CLIENT");
    let info: String = valkey.query_as(ask.arg("INFO")).await.unwrap();
    assert!(info.contains("resp=3"), "{info}");
    let mut blocking = valkey.blocking();
    let ping = redis::cmd("PING");
    blocking.query(&ping, Duration::ZERO).await.unwrap();

    let other = Certificates::new("DNS:localhost").unwrap();
    let said = refused(&with(&url, trusting(&other))).await;
    assert!(said.contains("invalid peer certificate"), "{said}");
    let said = refused(&with(&url, Tls::default())).await;
    assert!(
        said.contains("UnknownIssuer"),
        "not in the system's: {said}"
    );
    let by_number = server.tls_url("127.0.0.1");
    let said = refused(&with(&by_number, trusting(&certificates))).await;
    assert!(said.contains("not valid for name"), "{said}");
}

#[tokio::test]
async fn the_name_in_the_certificate_may_differ_from_the_address() {
    let certificates = Certificates::new("DNS:bus.internal").unwrap();
    let options = RedisOptions::default().tls(&certificates, TlsClients::MayShowOne);
    let server = RedisServer::start(options).unwrap();
    let named = |name: &str| Tls {
        server_name: Some(name.to_owned()),
        ..trusting(&certificates)
    };
    let url = server.tls_url("127.0.0.1");
    let valkey = Valkey::connect(&with(&url, named("bus.internal")))
        .await
        .unwrap();
    assert!(format!("{valkey:?}").contains("127.0.0.1"));
    refused(&with(&url, named("other.internal"))).await;
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_it() {
    let certificates = Certificates::new("DNS:localhost").unwrap();
    let options = RedisOptions::default().tls(&certificates, TlsClients::NeedCertificate);
    let mut server = RedisServer::start(options).unwrap();
    let url = server.tls_url("localhost");
    let valkey = Valkey::connect(&with(&url, showing(&certificates)))
        .await
        .unwrap();
    let error = Valkey::connect(&with(&url, trusting(&certificates)))
        .await
        .unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    server.restart().unwrap();
    ratebox_testkit::wait_until(Duration::from_secs(2), "it is back", || async {
        valkey.ping().await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn plain_text_and_tls_do_not_mix() {
    let certificates = Certificates::new("DNS:localhost").unwrap();
    let options = RedisOptions::default().tls(&certificates, TlsClients::MayShowOne);
    let server = RedisServer::start(options).unwrap();
    let to_plain = server.url().replace("redis://", "rediss://");
    let error = Valkey::connect(&with(&to_plain, trusting(&certificates)))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("does it speak TLS"), "{error}");
    let to_tls = server.tls_url("localhost").replace("rediss://", "redis://");
    let error = Valkey::connect(&crate::settings(&to_tls))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Connection { .. }), "{error:?}");
}

#[tokio::test]
async fn settings_that_contradict_each_other_say_what_to_change() {
    let certificates = Certificates::new("DNS:localhost").unwrap();
    let key_as_ca = Tls {
        ca: Some(certificates.pem("ca.key")),
        ..Tls::default()
    };
    let broken_key = Tls {
        client: Some(ClientCertificate {
            certificate: certificates.pem("client.pem"),
            key: Secret::new("hunter2"),
        }),
        ..Tls::default()
    };
    let other_key = Tls {
        client: Some(ClientCertificate {
            certificate: certificates.pem("client.pem"),
            key: Secret::new(certificates.pem("server.key")),
        }),
        ..Tls::default()
    };
    for (url, tls, hint) in [
        ("rediss://h", other_key, "its key do not fit"),
        ("redis://h", trusting(&certificates), "write rediss://"),
        ("rediss://h#insecure", Tls::default(), "#insecure"),
        ("rediss://h", key_as_ca, "the CA file holds no certificate"),
        ("rediss://h", broken_key, "no valid PEM"),
    ] {
        let error = Valkey::lazy(&with(url, tls)).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(
            shown.contains(hint) && !shown.contains("hunter2"),
            "{shown}"
        );
        assert!(!error.is_retryable());
    }
}
