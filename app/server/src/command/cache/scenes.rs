//! The scenes of the tour. Each leaves the shipped rows as they were.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ratebox_kit::{Clock, Stopwatch};
use serde_json::{Value, json};

use super::client::{Answer, Service};

/// A row of the tour's own.
const OWN: &str = "/users/900001";
/// A row that nobody has.
const NOBODY: &str = "/users/900404";
/// Readers of a crowd.
const CROWD: usize = 20;
/// Longest wait for a queued write: a queue whose owner died is taken over in this time.
const QUEUE_MAX: Duration = Duration::from_secs(20);
/// Longest wait for a refresh behind a reader's back.
const REFRESH_MAX: Duration = Duration::from_secs(5);

/// A scene at work.
type Playing = Pin<Box<dyn Future<Output = Result<String>> + Send>>;

/// How a scene is begun.
type Scene = fn(Service) -> Playing;

/// All scenes in order.
pub const ALL: [(&str, Scene); 15] = [
    ("the service is well", |it| Box::pin(health(it))),
    ("a first read asks the origin", |it| Box::pin(first(it))),
    ("a second read does not", |it| Box::pin(second(it))),
    ("a crowd loads once", |it| Box::pin(crowd(it))),
    ("a stale value is served at once", |it| Box::pin(stale(it))),
    ("what is absent is remembered", |it| Box::pin(absent(it))),
    ("a strategy nobody knows is refused", |it| {
        Box::pin(strategy(it))
    }),
    ("times out of range are refused", |it| Box::pin(range(it))),
    ("a write is seen by the next read", |it| {
        Box::pin(write_through(it))
    }),
    ("what depends on it changes too", |it| {
        Box::pin(dependent(it))
    }),
    ("a queued write reaches the origin", |it| {
        Box::pin(write_behind(it))
    }),
    ("many values in one request", |it| Box::pin(bulk(it))),
    ("one recomputation at a time", |it| Box::pin(recompute(it))),
    ("one request computes a value once", |it| {
        Box::pin(heavy(it))
    }),
    ("figures and limits are told", |it| Box::pin(figures(it))),
];

async fn health(service: Service) -> Result<String> {
    let answer = expect(service.get("/healthz").await?, 200)?;
    let breaker = answer.body["circuit_breaker"]
        .as_str()
        .context("no breaker")?;
    ensure!(answer.body["ok"] == true, "it says that it is not");
    Ok(format!("breaker {breaker}"))
}

async fn first(service: Service) -> Result<String> {
    expect(service.post("/invalidate/1", None).await?, 200)?;
    let before = loads(&service, "singleflight").await?;
    let path = "/users/1?strategy=singleflight";
    let answer = expect(service.get(path).await?, 200)?;
    ensure!(answer.body["id"] == 1, "another user came: {}", answer.body);
    let loads = loads(&service, "singleflight").await? - before;
    ensure!(loads == 1, "one read caused {loads} loads");
    Ok(format!("{} in {}", answer.body["name"], ms(answer.took)))
}

async fn second(service: Service) -> Result<String> {
    let before = loads(&service, "cache-aside").await?;
    let answer = expect(service.get("/users/1?strategy=cache-aside").await?, 200)?;
    let after = loads(&service, "cache-aside").await?;
    ensure!(before == after, "it was loaded again");
    Ok(ms(answer.took))
}

async fn crowd(service: Service) -> Result<String> {
    expect(service.post("/invalidate/2", None).await?, 200)?;
    let before = loads(&service, "singleflight").await?;
    let watch = Stopwatch::start();
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..CROWD {
        let service = service.clone();
        readers.spawn(async move { service.get("/users/2?strategy=singleflight").await });
    }
    while let Some(read) = readers.join_next().await {
        let answer = expect(read.context("a reader panicked")??, 200)?;
        ensure!(answer.body["id"] == 2, "another user came: {}", answer.body);
    }
    let took = watch.elapsed();
    let loads = loads(&service, "singleflight").await? - before;
    ensure!(loads == 1, "{CROWD} readers caused {loads} loads");
    Ok(format!("{CROWD} readers, {loads} load, {}", ms(took)))
}

async fn stale(service: Service) -> Result<String> {
    let path = "/users/2?strategy=swr&ttl=1&stale_grace=60";
    expect(service.post("/invalidate/2", None).await?, 200)?;
    let fresh = expect(service.get(path).await?, 200)?;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let (stale_before, loads_before) = of_users(&service).await?;
    let stale = expect(service.get(path).await?, 200)?;
    let watch = Stopwatch::start();
    ensure!(fresh.body == stale.body, "the values differ");
    let (stale_after, mut loads) = of_users(&service).await?;
    ensure!(stale_after > stale_before, "it was no stale value");
    while loads == loads_before {
        ensure!(
            watch.elapsed() < REFRESH_MAX,
            "nothing was loaded behind its back"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
        loads = of_users(&service).await?.1;
    }
    Ok(format!(
        "fresh {}, stale {}, refreshed within {}",
        ms(fresh.took),
        ms(stale.took),
        ms(watch.elapsed())
    ))
}

async fn absent(service: Service) -> Result<String> {
    let path = format!("{NOBODY}?strategy=negative");
    expect(service.get(&path).await?, 404)?;
    let before = loads(&service, "negative").await?;
    let again = expect(service.get(&path).await?, 404)?;
    ensure!(
        loads(&service, "negative").await? == before,
        "the origin was asked again"
    );
    Ok(format!("404 in {}", ms(again.took)))
}

async fn strategy(service: Service) -> Result<String> {
    let answer = expect(service.get("/users/1?strategy=magic").await?, 400)?;
    let detail = answer.body["detail"].as_str().unwrap_or_default();
    for known in ["cache-aside", "singleflight", "swr", "negative"] {
        ensure!(detail.contains(known), "{known} is not named: {detail}");
    }
    Ok("400, and names the valid ones".to_owned())
}

async fn range(service: Service) -> Result<String> {
    for query in ["ttl=0", "ttl=86401", "stale_grace=3601", "ttl=soon"] {
        expect(service.get(&format!("/users/1?{query}")).await?, 422)?;
    }
    Ok("422 for each of four".to_owned())
}

async fn write_through(service: Service) -> Result<String> {
    let title = format!("Pilot {}", Clock::system().now_ms());
    expect(service.get(OWN).await.map(found_or_not)?, 200)?;
    let body = json!({"name": "Amelia", "title": title, "mode": "write-through"});
    let written = expect(service.post(OWN, Some(&body)).await?, 200)?;
    let read = expect(service.get(OWN).await?, 200)?;
    ensure!(
        read.body["title"] == title.as_str(),
        "the old title came: {}",
        read.body
    );
    Ok(format!(
        "written {}, read {}",
        ms(written.took),
        ms(read.took)
    ))
}

async fn dependent(service: Service) -> Result<String> {
    let path = "/widgets/900001";
    expect(service.get(path).await?, 200)?;
    let title = format!("Author {}", Clock::system().now_ms());
    let body = json!({ "title": title });
    expect(service.post(OWN, Some(&body)).await?, 200)?;
    let after = expect(service.get(path).await?, 200)?;
    let greeting = greeting(&after)?;
    ensure!(
        greeting.ends_with(&title),
        "the old greeting came: {greeting}"
    );
    Ok(greeting.to_owned())
}

async fn write_behind(service: Service) -> Result<String> {
    let title = format!("Sailor {}", Clock::system().now_ms());
    let body = json!({"title": title, "mode": "write-behind"});
    let answered = expect(service.post(OWN, Some(&body)).await?, 200)?;
    let watch = Stopwatch::start();
    // Made from the origin, without the value that the write left in the cache.
    loop {
        expect(service.post("/invalidate/900001", None).await?, 200)?;
        let widget = expect(service.get("/widgets/900001").await?, 200)?;
        let greeting = greeting(&widget)?;
        if greeting.ends_with(&title) {
            break;
        }
        ensure!(
            watch.elapsed() < QUEUE_MAX,
            "the origin still says {greeting}"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(format!(
        "answered {}, applied within {}",
        ms(answered.took),
        ms(watch.elapsed())
    ))
}

async fn bulk(service: Service) -> Result<String> {
    let answer = expect(service.get("/bulk/users?ids=1,2,2,900404").await?, 200)?;
    let users = answer.body.as_object().context("no map came")?;
    ensure!(
        users.keys().eq(["1", "2"]),
        "these came: {:?}",
        users.keys()
    );
    let ids: Vec<String> = (1..=501).map(|id| id.to_string()).collect();
    let path = format!("/bulk/users?ids={}", ids.join(","));
    expect(service.get(&path).await?, 422)?;
    Ok(format!(
        "two of three in {}; 501 are refused",
        ms(answer.took)
    ))
}

async fn recompute(service: Service) -> Result<String> {
    let (one, two) = tokio::join!(
        service.post("/recompute", None),
        service.post("/recompute", None)
    );
    let mut statuses = [one?.status, two?.status];
    statuses.sort_unstable();
    ensure!(statuses == [200, 423], "the answers were {statuses:?}");
    Ok("one 200, one 423".to_owned())
}

async fn heavy(service: Service) -> Result<String> {
    let answer = expect(service.get("/calc/heavy?n=90").await?, 200)?;
    ensure!(
        answer.body["sum"] == 8_640_201_583_112_448_360_u64,
        "wrong sum: {}",
        answer.body
    );
    expect(service.get("/calc/heavy?n=91").await?, 422)?;
    Ok(format!(
        "{} steps in {}",
        answer.body["computed"],
        ms(answer.took)
    ))
}

async fn figures(service: Service) -> Result<String> {
    let limited = expect(service.get("/users/1").await?, 200)?;
    ensure!(limited.has_limit, "no RateLimit header");
    let stats = expect(service.get("/stats").await?, 200)?;
    ensure!(stats.body["connected"] == true, "it is not connected");
    let ratio = stats.body["hit_ratio"].as_f64().context("no hit ratio")?;
    Ok(format!(
        "{} keys, hit ratio {ratio:.2}",
        stats.body["total_keys"]
    ))
}

fn expect(answer: Answer, status: u16) -> Result<Answer> {
    ensure!(
        answer.status == status,
        "{} came, {status} was promised: {}",
        answer.status,
        answer.body
    );
    Ok(answer)
}

fn greeting(widget: &Answer) -> Result<&str> {
    let greeting = widget.body["greeting"].as_str();
    greeting.with_context(|| format!("no widget came: {}", widget.body))
}

/// The row may be there from an earlier tour.
fn found_or_not(answer: Answer) -> Answer {
    let status = if answer.status == 404 {
        200
    } else {
        answer.status
    };
    Answer { status, ..answer }
}

/// Loads that readers by a strategy waited for.
async fn loads(service: &Service, strategy: &str) -> Result<i64> {
    let stats = expect(service.get("/stats").await?, 200)?;
    let loads: &Value = &stats.body["strategies"][strategy]["loads"];
    loads.as_i64().context("no figure of loads")
}

/// Stale values that were answered, and loads, those behind a reader's back among them.
async fn of_users(service: &Service) -> Result<(i64, i64)> {
    let stats = expect(service.get("/stats").await?, 200)?;
    let of = |name: &str| {
        let figure = stats.body["resources"]["users"][name].as_i64();
        figure.with_context(|| format!("no figure of {name}"))
    };
    Ok((of("stale")?, of("loads")?))
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}
