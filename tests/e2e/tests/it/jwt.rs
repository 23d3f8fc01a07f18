//! Tokens that others sign, over the wire: the built binary, an issuer that shows its keys over
//! HTTP, and what goes wrong between them.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ratebox_kit::{Clock, Stopwatch};
use ratebox_testkit::{
    Certificates, HttpClient, JsonServer, JwtKey, Ratebox, RateboxOptions, TcpProxy, TempDir,
    wait_until,
};
use ratebox_testkit::{free_port, tools};
use serde_json::{Value, json};

use crate::place::ready;

const ISSUER: &str = "https://issuer.example";
const VALIDATE: &str = "/api/validation/validate";
const SOON: Duration = Duration::from_secs(20);

fn claims(subject: &str) -> Value {
    let now = Clock::system().now().as_second();
    json!({
        "iss": ISSUER, "aud": ["ratebox"], "sub": subject, "scope": "find create",
        "iat": now, "exp": now + 600,
    })
}

/// Believes the issuer, hardly remembers tokens, and asks for keys each second.
fn with_issuer(options: RateboxOptions, url: &str) -> RateboxOptions {
    options
        .env("RATEBOX_JWT__ISSUER", ISSUER)
        .env("RATEBOX_JWT__AUDIENCE", "ratebox")
        .env("RATEBOX_JWT__JWKS_URL", url)
        .env("RATEBOX_JWT__JWKS_CACHE_S", "1")
        .env("RATEBOX_JWT__JWKS_REFETCH_S", "1")
        .env("RATEBOX_GATEWAY__TOKEN_CACHE_MS", "1")
        .env("RATEBOX_GATEWAY__LIMIT_VALIDATE", "1000000")
}

async fn up(with: impl FnOnce(RateboxOptions) -> RateboxOptions) -> Ratebox {
    ready(Ratebox::up(|it| with(it.arg("--no-sample"))).unwrap()).await
}

async fn come(ratebox: &Ratebox, token: &str) -> (u16, String) {
    let http = ratebox.client().with_token(token);
    let body = json!({ "phone": "0912345678", "bank_account": "12345678901" });
    let answer = http.post_json(VALIDATE, &body).await.unwrap();
    let code = answer.json().unwrap()["code"].as_str().map(str::to_owned);
    (answer.status, code.unwrap_or_default())
}

async fn status(ratebox: &Ratebox, token: &str) -> u16 {
    come(ratebox, token).await.0
}

/// Comes with a token until it is answered so; not so often that the address is shut out.
async fn comes_to(ratebox: &Ratebox, token: &str, expected: u16) {
    let waited = Stopwatch::start();
    loop {
        let answered = status(ratebox, token).await;
        if answered == expected {
            return;
        }
        assert!(waited.elapsed() < SOON, "{answered}: {}", ratebox.logs());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

#[tokio::test]
async fn who_has_a_token_of_the_issuer_gets_in_and_sees_his_own_only() {
    let rsa = JwtKey::rs256("rsa", 2048).unwrap();
    let (ec, ed) = (JwtKey::es256("ec").unwrap(), JwtKey::eddsa("ed").unwrap());
    let issuer = JsonServer::start(&JwtKey::set(&[&rsa, &ec, &ed])).unwrap();
    let ratebox =
        up(|it| with_issuer(it, &issuer.url()).env("RATEBOX_JWT__JWKS_CACHE_S", "300")).await;
    for key in [&rsa, &ec, &ed] {
        assert_eq!(status(&ratebox, &key.sign(&claims("ann"))).await, 202);
    }
    let client = |subject: &str| ratebox.client().with_token(&ec.sign(&claims(subject)));
    let (ann, bob) = (client("ann"), client("bob"));
    let body = json!({ "phone": "0912345678" });
    let taken = ann
        .post_json(VALIDATE, &body)
        .await
        .unwrap()
        .json()
        .unwrap();
    let path = format!(
        "/api/validation/status/{}?wait=20",
        taken["request_id"].as_str().unwrap()
    );
    let mine = ann.get(&path).await.unwrap();
    assert_eq!(mine.json().unwrap()["status"], "error", "{}", mine.text());
    assert_eq!(bob.get(&path).await.unwrap().status, 404);
    // The administrator's API token owns another account.
    let admin = ratebox.admin().unwrap();
    assert_eq!(admin.get(&path).await.unwrap().status, 404);
    // Scopes that were not given.
    let reads =
        |http: HttpClient| async move { http.get("/api/monitoring/dlq").await.unwrap().status };
    assert_eq!(reads(ann).await, 403);
    let mut claims = claims("ann");
    claims["scope"] = json!("admin");
    assert_eq!(
        reads(ratebox.client().with_token(&ec.sign(&claims))).await,
        403
    );
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn forged_and_ended_tokens_stay_out_and_out_of_the_log() {
    let (rsa, ec) = (
        JwtKey::rs256("rsa", 2048).unwrap(),
        JwtKey::es256("ec").unwrap(),
    );
    let issuer = JsonServer::start(&JwtKey::set(&[&rsa, &ec])).unwrap();
    let ratebox = up(|it| with_issuer(it, &issuer.url()).env("RATEBOX_LOG__LEVEL", "debug")).await;
    let modulus = rsa.jwk()["n"].as_str().unwrap().to_owned();
    let changed = |name: &str, value: Value| {
        let mut claims = claims("ann");
        claims[name] = value;
        ec.sign(&claims)
    };
    let past = Clock::system().now().as_second() - 3600;
    let cases = [
        (ec.sign(&claims("ann")), 202, ""),
        (changed("exp", json!(past)), 401, "auth.expired"),
        (changed("aud", json!("other")), 401, "auth.refused"),
        (
            changed("iss", json!("https://other.example")),
            401,
            "auth.refused",
        ),
        (
            ec.sign_with(&json!({ "alg": "none" }), &claims("ann")),
            401,
            "auth.refused",
        ),
        (
            ec.sign_with(&json!({ "alg": "RS256", "kid": "ec" }), &claims("ann")),
            401,
            "auth.refused",
        ),
        (
            JwtKey::hs256("rsa", modulus.as_bytes()).sign(&claims("ann")),
            401,
            "auth.refused",
        ),
        (
            JwtKey::es256("ec").unwrap().sign(&claims("ann")),
            401,
            "auth.refused",
        ),
    ];
    for (token, expected, code) in &cases {
        assert_eq!(come(&ratebox, token).await, (*expected, (*code).to_owned()));
    }
    let logs = ratebox.logs();
    for (token, ..) in &cases {
        let signature = token.rsplit('.').next().unwrap();
        assert!(!logs.contains(signature), "a token is in the log");
    }
}

#[tokio::test]
async fn keys_are_exchanged_while_everything_runs() {
    let (old, new) = (JwtKey::es256("old").unwrap(), JwtKey::es256("new").unwrap());
    let issuer = JsonServer::start(&JwtKey::set(&[&old])).unwrap();
    let ratebox = up(|it| with_issuer(it, &issuer.url())).await;
    let (of_old, of_new) = (old.sign(&claims("ann")), new.sign(&claims("ann")));
    assert_eq!(status(&ratebox, &of_old).await, 202);
    issuer.serve(&JwtKey::set(&[&old, &new]));
    comes_to(&ratebox, &of_new, 202).await;
    assert_eq!(status(&ratebox, &of_old).await, 202);
    issuer.serve(&JwtKey::set(&[&new]));
    comes_to(&ratebox, &of_old, 401).await;
    assert_eq!(status(&ratebox, &of_new).await, 202);
}

#[tokio::test]
async fn an_issuer_that_is_away_shuts_nobody_out_who_was_in() {
    let key = JwtKey::eddsa("k").unwrap();
    let issuer = JsonServer::start(&JwtKey::set(&[&key])).unwrap();
    let proxy = TcpProxy::to(issuer.port()).unwrap();
    let url = proxy.url(&issuer.url());
    let ratebox = up(|it| with_issuer(it, &url).env("RATEBOX_JWT__JWKS_TIMEOUT_MS", "500")).await;
    let token = key.sign(&claims("ann"));
    assert_eq!(status(&ratebox, &token).await, 202);
    let failures = || ratebox.logs().matches("cannot be fetched").count();
    for silent in [false, true] {
        let before = failures();
        if silent {
            proxy.black_hole();
        } else {
            proxy.cut();
        }
        wait_until(SOON, "the keys cannot be fetched", || async {
            assert_eq!(status(&ratebox, &token).await, 202);
            failures() > before
        })
        .await;
        // Another user, whose token nobody has seen yet.
        assert_eq!(status(&ratebox, &key.sign(&claims("bob"))).await, 202);
    }
    proxy.resume();
    issuer.answer(500, "{}");
    assert_eq!(status(&ratebox, &token).await, 202);
    issuer.serve(&JwtKey::set(&[&key]));
    assert_eq!(status(&ratebox, &token).await, 202);
    assert!(!ratebox.logs().contains(token.rsplit('.').next().unwrap()));
}

#[tokio::test]
async fn invented_keys_cost_the_issuer_little() {
    let key = JwtKey::eddsa("k").unwrap();
    let issuer = JsonServer::start(&JwtKey::set(&[&key])).unwrap();
    let ratebox = up(|it| {
        with_issuer(it, &issuer.url())
            .env("RATEBOX_JWT__JWKS_CACHE_S", "300")
            .env("RATEBOX_JWT__JWKS_REFETCH_S", "3600")
    })
    .await;
    assert_eq!(status(&ratebox, &key.sign(&claims("ann"))).await, 202);
    let mut statuses = Vec::new();
    for number in 0..60 {
        let head = json!({ "alg": "EdDSA", "kid": format!("kid {number}") });
        statuses.push(status(&ratebox, &key.sign_with(&head, &claims("ann"))).await);
    }
    assert!(
        statuses.iter().all(|it| [401, 429].contains(it)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn a_file_of_keys_is_read_again_when_it_changes() {
    let (old, new) = (JwtKey::es256("old").unwrap(), JwtKey::es256("new").unwrap());
    let folder = TempDir::new().unwrap();
    let file = folder.join("jwks.json");
    let write = |keys: &[&JwtKey]| std::fs::write(&file, JwtKey::set(keys).to_string()).unwrap();
    write(&[&old]);
    let ratebox =
        up(|it| with_issuer(it, "").env("RATEBOX_JWT__JWKS_FILE", file.as_os_str())).await;
    let (of_old, of_new) = (old.sign(&claims("ann")), new.sign(&claims("ann")));
    assert_eq!(status(&ratebox, &of_old).await, 202);
    write(&[&new]);
    comes_to(&ratebox, &of_new, 202).await;
    comes_to(&ratebox, &of_old, 401).await;
    // Half a file changes nothing.
    std::fs::write(&file, "{\"keys\":[{\"kty\"").unwrap();
    wait_until(SOON, "the log says so", || async {
        assert_eq!(status(&ratebox, &of_new).await, 202);
        ratebox.logs().contains("is no JWKS")
    })
    .await;
}

/// OpenSSL's own server of the files in a folder; ends when it is dropped.
struct TlsServer(Child);

impl TlsServer {
    fn start(port: u16, folder: &TempDir, certificates: &Certificates) -> Self {
        let child = Command::new(tools::openssl().unwrap())
            .current_dir(folder.path())
            .args(["s_server", "-WWW", "-quiet", "-accept"])
            .arg(format!("127.0.0.1:{port}"))
            .arg("-cert")
            .arg(certificates.path("server.pem"))
            .arg("-key")
            .arg(certificates.path("server.key"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn keys_over_tls_come_from_who_can_prove_his_name_only() {
    let key = JwtKey::es256("k").unwrap();
    let (folder, port) = (TempDir::new().unwrap(), free_port());
    std::fs::write(folder.join("jwks.json"), JwtKey::set(&[&key]).to_string()).unwrap();
    let trusted = Certificates::new("DNS:localhost").unwrap();
    let strange = Certificates::new("DNS:localhost").unwrap();
    let _server = TlsServer::start(port, &folder, &trusted);
    let url = format!("https://localhost:{port}/jwks.json");
    let with = |by: &Certificates| {
        let ca = by.path("ca.pem");
        up(|it| with_issuer(it, &url).env("SSL_CERT_FILE", ca))
    };
    let believes = with(&trusted).await;
    let token = key.sign(&claims("ann"));
    comes_to(&believes, &token, 202).await;
    let doubts = with(&strange).await;
    let refused = come(&doubts, &token).await;
    assert_eq!(refused, (503, "auth.unavailable".to_owned()));
    assert!(
        doubts.logs().contains("cannot be fetched"),
        "{}",
        doubts.logs()
    );
}

#[tokio::test]
async fn the_cache_service_takes_the_same_tokens() {
    let key = JwtKey::es256("k").unwrap();
    let issuer = JsonServer::start(&JwtKey::set(&[&key])).unwrap();
    let options = RateboxOptions::new("cache").env("VALKEY_FAKE", "1");
    let service = with_issuer(options, &issuer.url()).start().unwrap();
    let http = |token: &str| service.client().with_token(token);
    wait_until(Duration::from_secs(60), "it listens", || async {
        let well = service.client().get("/healthz").await;
        well.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    let mut reader = claims("ann");
    reader["scope"] = json!("validation:read");
    let reads = http(&key.sign(&reader));
    assert_eq!(
        reads.get("/users/1").await.unwrap().status,
        200,
        "{}",
        service.logs()
    );
    let body = json!({ "name": "Ada" });
    assert_eq!(
        reads.post_json("/users/1", &body).await.unwrap().status,
        403
    );
    let writes = http(&key.sign(&claims("ann")));
    assert_eq!(
        writes.post_json("/users/1", &body).await.unwrap().status,
        200
    );
    let forged = http(&JwtKey::es256("k").unwrap().sign(&reader));
    let refused = forged.get("/users/1").await.unwrap();
    assert_eq!(refused.status, 401);
    assert_eq!(refused.json().unwrap()["code"], "auth.refused");
}

#[tokio::test]
async fn the_doctor_says_what_is_wrong_with_the_keys() {
    let key = JwtKey::es256("good key").unwrap();
    let small = JwtKey::rs256("small", 2048).unwrap();
    let mut set = JwtKey::set(&[&key, &small]);
    set["keys"][1]["alg"] = json!("RS512");
    let issuer = JsonServer::start(&set).unwrap();
    let jwt = |options: RateboxOptions, url: &str| with_issuer(options, url).arg("--json");
    let findings = |url: &str| -> Vec<(String, String)> {
        let found = jwt(RateboxOptions::new("doctor"), url).run().unwrap();
        let found: Value = serde_json::from_str(&found.stdout).unwrap();
        let all = found["findings"].as_array().unwrap().iter();
        let text = |it: &Value, name: &str| it[name].as_str().unwrap().to_owned();
        all.filter(|it| it["about"] == "jwt")
            .map(|it| (text(it, "level"), text(it, "says")))
            .collect()
    };
    let found = findings(&issuer.url());
    assert_eq!(found[0].0, "OK", "{found:?}");
    assert!(found[0].1.contains("good key (ES256)"), "{found:?}");
    assert_eq!(found[1].0, "WARN", "{found:?}");
    assert!(
        found[1].1.contains("small") && found[1].1.contains("alg"),
        "{found:?}"
    );
    issuer.answer(200, "<html>");
    assert!(findings(&issuer.url())[0].1.contains("is no JWKS"));
    issuer.answer(404, "");
    assert!(findings(&issuer.url())[0].1.contains("404"));
    let nobody = format!("http://127.0.0.1:{}/", free_port());
    let away = findings(&nobody);
    assert!(
        away[0].0 == "FAIL" && away[0].1.contains("does not answer"),
        "{away:?}"
    );
    let plain = findings("http://issuer.example/jwks");
    assert!(plain[0].1.contains("is not https"), "{plain:?}");
}

#[tokio::test]
async fn settings_of_tokens_are_checked_before_anything_starts() {
    let folder = TempDir::new().unwrap();
    let file = folder.join("jwks.json");
    std::fs::write(&file, "{\"keys\":[]}").unwrap();
    let check = |options: RateboxOptions| {
        let checked = options.arg("check").run().unwrap();
        assert_eq!(checked.code, Some(2), "{checked:?}");
        checked.stderr
    };
    let with_file = with_issuer(RateboxOptions::new("config"), "");
    let said = check(with_file.env("RATEBOX_JWT__JWKS_FILE", file.as_os_str()));
    assert!(
        said.contains("jwt.jwks_file") && said.contains("no key"),
        "{said}"
    );
    let weak =
        with_issuer(RateboxOptions::new("config"), "").env("RATEBOX_JWT__HS256_SECRET", "weak");
    assert!(check(weak).contains("32 bytes"));
    let nobody = RateboxOptions::new("config").env("RATEBOX_JWT__JWKS_URL", "https://x.example/");
    assert!(check(nobody).contains("jwt.issuer"));
}
