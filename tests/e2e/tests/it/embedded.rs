//! No servers at all: what a newcomer meets.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Duration;

use ratebox_testkit::{HttpClient, Ratebox, RateboxOptions, TempDir, free_port, wait_for};
use serde_json::{Value, json};

use crate::place::{ready, request};

#[tokio::test]
async fn an_empty_folder_gets_a_token_judged_samples_and_a_curl_that_works() {
    let ratebox = ready(Ratebox::up(|it| it).unwrap()).await;
    wait_for(Duration::from_secs(60), "the greeting", || async {
        ratebox.logs().contains("Try it:").then_some(())
    })
    .await;
    let said = ratebox.logs();
    assert!(
        said.contains("records of examples/reports.csv judged"),
        "{said}"
    );
    assert!(
        said.contains(&format!("http://127.0.0.1:{}", port(&ratebox))),
        "{said}"
    );
    let token = ratebox.admin_token().unwrap();
    assert!(
        said.contains(&format!("Authorization: Bearer {token}")),
        "{said}"
    );
    for file in ["admin.token", "reports.csv"] {
        let about = std::fs::metadata(ratebox.data_dir().join(file)).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o600, "{file}");
    }
    let folder = std::fs::metadata(ratebox.data_dir()).unwrap();
    let is_new = folder.permissions().mode() & 0o077 == 0;
    assert!(is_new, "others may look at the records");
    let answer = curl(&said);
    assert_eq!(answer["status"], "success", "{answer}");
    assert_eq!(answer["results"][0]["normalized"]["phone"], "+84912345678");
}

/// A full disk under the log, or a reader of it that is gone.
#[tokio::test]
async fn a_log_that_cannot_be_written_ends_nothing() {
    let folder = TempDir::new().unwrap();
    let binary = RateboxOptions::new("up").binary_path().unwrap();
    let run = |words: &[&str]| {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let mut command = std::process::Command::new(&binary);
        command.args(words).arg("--data-dir").arg(folder.path());
        command.env("RATEBOX_METRICS__LISTEN", "");
        command.stdout(Stdio::null()).stderr(full.unwrap());
        command.spawn().unwrap()
    };
    let listen = format!("127.0.0.1:{}", free_port());
    let mut up = run(&["up", "--no-sample", "--listen", &listen]);
    wait_for(Duration::from_secs(60), "it to be ready", || async {
        let http = HttpClient::new(&format!("http://{listen}"));
        let ready = http.get("/api/health/ready").await.ok()?;
        (ready.status == 200).then_some(())
    })
    .await;
    let nobody = "01a1fddb-d7d9-77ff-b80f-1e19cbe39297";
    let unknown = run(&["dlq", "show", nobody]).wait().unwrap();
    assert_eq!(unknown.code(), Some(1), "{unknown:?}");
    let pid = up.id().to_string();
    let term = std::process::Command::new("kill").arg(pid).status();
    assert!(term.unwrap().success());
    let ended = tokio::task::spawn_blocking(move || up.wait()).await;
    assert_eq!(ended.unwrap().unwrap().code(), Some(0));
}

/// All that is printed and logged until the greeting has ended.
async fn greeting(ratebox: &Ratebox) -> String {
    wait_for(Duration::from_secs(60), "the greeting", || async {
        Some(ratebox.logs()).filter(|it| it.contains("}]}'"))
    })
    .await
}

fn port(ratebox: &Ratebox) -> &str {
    ratebox
        .base_url()
        .rsplit(':')
        .next()
        .map(str::to_owned)
        .unwrap()
        .leak()
}

/// Runs the printed command as a shell would.
fn curl(said: &str) -> Value {
    let start = said.find("  curl ").unwrap();
    let end = said[start..].find("}]}'").unwrap() + start + 4;
    let run = std::process::Command::new("sh")
        .arg("-c")
        .arg(&said[start..end])
        .output();
    let output = run.unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}: {}", &said[start..end]))
}

#[tokio::test]
async fn a_request_is_answered_by_status_long_poll_and_prefer_wait() {
    let ratebox = ready(Ratebox::up(|it| it.arg("--no-sample")).unwrap()).await;
    let http = ratebox.admin().unwrap();
    let accepted = http
        .post_json("/api/validation/validate", &request(3))
        .await
        .unwrap();
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let location = accepted.header("location").unwrap().to_owned();
    let status = http
        .get(&format!("{location}?wait=10"))
        .await
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(status["status"], "partial", "{status}");
    assert_eq!(status["results"][2]["error_code"], 200);
    assert_eq!(
        status["results"][2]["errors"][0]["message"],
        "Bank account is required"
    );

    let body = serde_json::to_vec(&request(1)).unwrap();
    let headers = [("content-type", "application/json"), ("prefer", "wait=10")];
    let now = http
        .request("POST", "/api/validation/validate", &headers, &body)
        .await
        .unwrap();
    assert_eq!(now.status, 200, "{}", now.text());
    assert_eq!(now.json().unwrap()["status"], "success");
}

#[tokio::test]
async fn what_was_accepted_survives_kill_9() {
    let folder = TempDir::new().unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let mut ratebox =
            ready(Ratebox::up(|it| it.data_dir(folder.path()).arg("--no-sample")).unwrap()).await;
        let http = ratebox.admin().unwrap();
        for _ in 0..20 {
            let answer = http
                .post_json("/api/validation/validate", &request(50))
                .await
                .unwrap();
            assert_eq!(answer.status, 202);
            ids.push(
                answer.json().unwrap()["request_id"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            );
        }
        ratebox.kill9();
    }
    let ratebox =
        ready(Ratebox::up(|it| it.data_dir(folder.path()).arg("--no-sample")).unwrap()).await;
    let http = ratebox.admin().unwrap();
    for id in &ids {
        let path = format!("/api/validation/status/{id}?wait=5");
        let status = wait_for(Duration::from_secs(30), "every verdict", || async {
            let answer = http.get(&path).await.ok()?.json().ok()?;
            (answer["status"] == "partial").then_some(answer)
        })
        .await;
        assert_eq!(status["results"].as_array().unwrap().len(), 50);
    }
    assert_eq!(ids.len(), 60);
}

#[tokio::test]
async fn sigterm_ends_it_calmly_and_a_second_start_keeps_the_token() {
    let folder = TempDir::new().unwrap();
    let mut ratebox =
        ready(Ratebox::up(|it| it.data_dir(folder.path()).arg("--no-sample")).unwrap()).await;
    let token = ratebox.admin_token().unwrap();
    assert_eq!(ratebox.terminate().await.unwrap(), 0, "{}", ratebox.logs());
    let ratebox =
        ready(Ratebox::up(|it| it.data_dir(folder.path()).arg("--no-sample")).unwrap()).await;
    assert_eq!(ratebox.admin_token().unwrap(), token);
    let said = greeting(&ratebox).await;
    assert!(!said.contains(&token), "logs keep what is printed: {said}");
    assert_eq!(curl(&said)["status"], "success");
    let answer = ratebox
        .admin()
        .unwrap()
        .post_json("/api/validation/validate", &request(1))
        .await;
    assert_eq!(answer.unwrap().status, 202);
}

#[tokio::test]
async fn a_start_without_the_tokens_file_says_how_to_make_another() {
    let folder = TempDir::new().unwrap();
    let mut ratebox =
        ready(Ratebox::up(|it| it.data_dir(folder.path()).arg("--no-sample")).unwrap()).await;
    assert_eq!(ratebox.terminate().await.unwrap(), 0, "{}", ratebox.logs());
    std::fs::write(folder.path().join("admin.token"), "").unwrap();
    let ratebox =
        ready(Ratebox::up(|it| it.data_dir(folder.path()).arg("--no-sample")).unwrap()).await;
    wait_for(Duration::from_secs(20), "the greeting", || async {
        ratebox.logs().contains("Try it:").then_some(())
    })
    .await;
    let said = ratebox.logs();
    let start = said.find("token create").expect(&said);
    let words = said[start..].lines().next().unwrap().trim_end_matches(')');
    assert!(said.contains("'Authorization: Bearer TOKEN'"), "{said}");
    let made = ratebox_testkit::RateboxOptions::new("token")
        .arg("create")
        .args(words.split(' ').skip(2))
        .run()
        .unwrap();
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(made.stdout.starts_with("rb_live_"), "{made:?}");
}

#[tokio::test]
async fn a_token_that_was_rotated_is_not_printed_as_one_that_works() {
    let folder = TempDir::new().unwrap();
    let start = async || {
        let up = Ratebox::up(|it| it.data_dir(folder.path()).arg("--no-sample"));
        ready(up.unwrap()).await
    };
    let mut first = start().await;
    let token = first.admin_token().unwrap();
    assert_eq!(first.terminate().await.unwrap(), 0, "{}", first.logs());
    let mut second = start().await;
    let said = greeting(&second).await;
    assert!(said.contains("admin.token"), "it is good: {said}");
    let public = token.rsplit('_').nth(1).unwrap();
    let rotate = RateboxOptions::new("token").args(["rotate", public, "--data-dir"]);
    let rotated = rotate.arg(folder.path()).run().unwrap();
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    assert_eq!(second.terminate().await.unwrap(), 0, "{}", second.logs());
    let said = greeting(&start().await).await;
    assert!(!said.contains("admin.token"), "{said}");
    assert!(said.contains("'Authorization: Bearer TOKEN'"), "{said}");
    assert!(said.contains("ratebox token create"), "{said}");
}

#[tokio::test]
async fn a_free_port_that_was_asked_for_is_named_by_the_greeting() {
    let up = Ratebox::up(|it| {
        let it = it.port(0).arg("--no-sample");
        it.env("RATEBOX_METRICS__LISTEN", "127.0.0.1:0")
    });
    let ratebox = up.unwrap();
    let said = greeting(&ratebox).await;
    let named = |label: &str| {
        let line = said.lines().find_map(|it| it.trim().strip_prefix(label));
        line.expect(label).trim().to_owned()
    };
    let api = HttpClient::new(&named("API"));
    assert_eq!(api.get("/api/health/live").await.unwrap().status, 200);
    let metrics = HttpClient::new(named("metrics").trim_end_matches("/metrics"));
    assert_eq!(metrics.get("/metrics").await.unwrap().status, 200);
}

#[tokio::test]
async fn health_metrics_and_openapi_answer_and_metrics_stay_off_the_public_door() {
    let ratebox = ready(Ratebox::up(|it| it.arg("--no-sample")).unwrap()).await;
    let http = ratebox.admin().unwrap();
    http.post_json("/api/validation/validate", &request(1))
        .await
        .unwrap();
    let health = http.get("/api/health").await.unwrap();
    assert_eq!(health.status, 200, "{}", health.text());
    assert_eq!(http.get("/metrics").await.unwrap().status, 404);
    let metrics = ratebox_testkit::HttpClient::new(&ratebox.metrics_url());
    wait_for(Duration::from_secs(10), "an item to be counted", || async {
        let text = metrics.get("/metrics").await.ok()?.text();
        text.contains("ratebox_items_total{verdict=\"DONE\"} 1")
            .then_some(())
    })
    .await;
    let page = metrics.get("/metrics").await.unwrap().text();
    for family in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = family.split(' ').next().unwrap();
        let help = format!("# HELP {name} ");
        assert!(page.contains(&help), "nothing says what {name} means");
    }
    let openapi = http.get("/openapi.json").await.unwrap().json().unwrap();
    assert_eq!(openapi["openapi"], "3.1.0");
    assert_eq!(
        openapi["paths"]["/api/validation/validate"]["post"]["tags"],
        json!(["validation"])
    );
}

/// The listener of metrics counts its own, too, and overwrites nobody's.
#[tokio::test]
async fn the_open_connections_are_told_and_those_that_ended_are_not() {
    let ratebox = ready(Ratebox::up(|it| it.arg("--no-sample")).unwrap()).await;
    let metrics = ratebox_testkit::HttpClient::new(&ratebox.metrics_url());
    let open = async || -> Option<f64> {
        let text = metrics.get("/metrics").await.ok()?.text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("ratebox_http_connections "));
        line?.parse().ok()
    };
    let before = open().await.unwrap();
    let url = ratebox.base_url();
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let idle: Vec<_> = (0..20)
        .map(|_| std::net::TcpStream::connect(address).unwrap())
        .collect();
    let soon = Duration::from_secs(10);
    wait_for(soon, "the gauge to rise", || async {
        open().await.filter(|it| *it >= before + 15.0)
    })
    .await;
    drop(idle);
    wait_for(soon, "the gauge to fall", || async {
        open().await.filter(|it| *it < before + 15.0)
    })
    .await;
}

/// The same promise as on a server, where a submission leaves no row.
#[tokio::test]
async fn what_is_accepted_on_the_embedded_bus_keeps_its_idempotency_key() {
    let options = |it: RateboxOptions| it.env("RATEBOX_GATEWAY__ACCEPT", "stream");
    let ratebox = ready(Ratebox::up(options).unwrap()).await;
    let client = ratebox.client().with_token(&ratebox.admin_token().unwrap());
    let client = client.with_header("idempotency-key", "k");
    let path = "/api/validation/validate";
    let first = client.post_json(path, &request(1)).await.unwrap();
    assert_eq!(first.status, 202, "{}", first.text());
    let again = client.post_json(path, &request(1)).await.unwrap();
    assert_eq!((again.status, &again.body), (202, &first.body));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let other = client.post_json(path, &request(2)).await.unwrap();
    assert_eq!(other.status, 422, "{}", other.text());
}

/// SQLite takes a name that begins like this for a URI.
#[test]
fn a_data_folder_may_have_any_name() {
    let migrate = RateboxOptions::new("migrate").args(["--data-dir", "file:u?mode=ro"]);
    let migrated = migrate.run().unwrap();
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
}

/// SQLite would go on with files that nobody finds any more, and answer 202 for what is lost with it.
#[tokio::test]
async fn health_says_so_while_the_data_folder_is_away() {
    let ratebox = ready(Ratebox::up(|it| it.arg("--no-sample")).unwrap()).await;
    let http = ratebox.client();
    let away = ratebox.data_dir().with_extension("away");
    std::fs::rename(ratebox.data_dir(), &away).unwrap();
    let soon = Duration::from_secs(20);
    let health = wait_for(soon, "health to notice", || async {
        let answer = http.get("/api/health").await.ok()?;
        let health = answer.json().ok()?;
        let is_down = |number: usize| health["components"][number]["status"] == "down";
        (answer.status == 503 && is_down(0) && is_down(1)).then_some(health)
    })
    .await;
    for (number, name) in ["store", "bus"].into_iter().enumerate() {
        let component = &health["components"][number];
        assert_eq!(component["name"], name, "{health}");
        let said = component["detail"].as_str().unwrap();
        let words = format!("the {name}'s file was removed or replaced under this process");
        assert!(said.starts_with(&words), "{health}");
    }
    std::fs::rename(&away, ratebox.data_dir()).unwrap();
    wait_for(soon, "health to notice that it is back", || async {
        let ready = http.get("/api/health/ready").await.ok()?;
        (ready.status == 200).then_some(())
    })
    .await;
}
