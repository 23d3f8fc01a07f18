//! Planted values never reach a log line, a metric label or the body of an error.

use std::io;
use std::sync::{Arc, Mutex};

use ratebox_testkit::Answer;
use tracing_subscriber::fmt::MakeWriter;

use crate::door::{BATCH, Door, IMPORT, VALIDATE, post, post_with};
use crate::framing::exchange;

#[derive(Clone, Default)]
pub(crate) struct Captured(pub(crate) Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

const PHONE: &str = "0907654321";
const ACCOUNT: &str = "97040098765432";
const EMAIL: &str = "canary@planted.example";
const NAME: &str = "Canary Planted";
const KEY: &str = "canary-idempotency-key";

fn bodies() -> Vec<String> {
    let item = format!(
        r#"{{"phone":"{PHONE}","bank_account":"{ACCOUNT}","email":"{EMAIL}","name":"{NAME}"}}"#
    );
    vec![
        item.clone(),
        format!("{item}{item}"),
        format!(r#"{{"items":[{item}],"priority":"{NAME}"}}"#),
        format!(r#"{{"items":[{item}],"external_ref":7,"source":"{EMAIL}"}}"#),
        format!(r#"{{"items":[{item},"{PHONE}\u0000"]}}"#),
        format!(r#"{{"items":[{item}],"webhook_url":"http://{EMAIL}/{PHONE}"}}"#),
        format!(r#"{{"batches":[{{"id":"{NAME}","items":"{PHONE}"}}]}}"#),
    ]
}

// tidy: one road through every door; cut in pieces it would plant and grep several times.
#[expect(clippy::too_many_lines, reason = "see above")]
#[tokio::test]
async fn planted_values_are_in_no_log_and_in_no_error() {
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(captured.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let door = Door::open().await;
    let token = door.token("ann", &["admin"]).await;
    let secret = token.rsplit('_').next().unwrap().to_owned();
    let client = door.anybody().with_token(&token);
    let mut answers: Vec<Answer> = Vec::new();
    let key = [("idempotency-key", KEY), ("x-forwarded-for", EMAIL)];
    for body in bodies() {
        for path in [VALIDATE, BATCH, IMPORT] {
            answers.push(post(&client, path, body.as_bytes()).await);
            answers.push(post_with(&client, path, &key, body.as_bytes()).await);
        }
    }
    let stranger = door.anybody();
    let wrong = format!("Bearer {}{}", &token[..token.len() - 4], "0000");
    for value in [
        &wrong,
        &format!("Bearer {PHONE}"),
        &format!("Basic {secret}"),
    ] {
        answers.push(post_with(&stranger, VALIDATE, &[("authorization", value)], b"{}").await);
    }
    answers.push(
        client
            .get(&format!("/api/validation/status/{PHONE}?token={token}"))
            .await
            .unwrap(),
    );
    answers.push(client.get(&format!("/{EMAIL}/{PHONE}")).await.unwrap());
    let raw = format!("GET /{PHONE} HTTP/1.1\r\nHost: {EMAIL}\nX: {secret}\r\n\r\n");
    Box::pin(exchange(&door, raw.as_bytes())).await;
    // The store full, the store broken.
    door.fill().await;
    let big = format!(
        r#"{{"items":[{{"phone":"{PHONE}","name":"{}"}}]}}"#,
        NAME.repeat(80_000)
    );
    answers.push(post(&client, VALIDATE, big.as_bytes()).await);
    door.execute("DROP TABLE validation_requests").await;
    answers.push(post(&client, VALIDATE, bodies()[0].as_bytes()).await);
    answers.push(
        client
            .get(&format!(
                "/api/validation/status/{}",
                ratebox_kit::id::new()
            ))
            .await
            .unwrap(),
    );
    assert_eq!(
        answers
            .iter()
            .rev()
            .take(3)
            .map(|it| it.status)
            .collect::<Vec<_>>(),
        [500, 500, 503]
    );

    let log = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    assert!(
        log.contains("submissions could not be committed"),
        "the log was captured"
    );
    let errors: String = answers
        .iter()
        .filter(|it| it.status >= 400)
        .map(Answer::text)
        .collect();
    for planted in [
        PHONE,
        ACCOUNT,
        EMAIL,
        NAME,
        KEY,
        secret.as_str(),
        token.as_str(),
    ] {
        assert!(!log.contains(planted), "{planted} in the log");
        assert!(!errors.contains(planted), "{planted} in an error");
    }
    for word in [
        "SELECT",
        "INSERT",
        "validation_requests",
        "sqlite",
        "panicked",
        "src/",
        ".rs",
    ] {
        assert!(!errors.contains(word), "{word} in an error");
    }
}
