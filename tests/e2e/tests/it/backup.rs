//! `ratebox backup`: a copy that is sound, whoever works on the original meanwhile, or none at all.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use ratebox_db::{Db, SqliteSettings};
use ratebox_testkit::{Output, Ratebox, RateboxOptions, TempDir, wait_for, wait_until};

use crate::place::{ready, request};

const SOON: Duration = Duration::from_secs(90);

fn backup(from: &Path, to: &Path) -> RateboxOptions {
    let options = RateboxOptions::new("backup").arg(to);
    options.arg("--data-dir").arg(from)
}

#[tokio::test]
async fn a_copy_that_is_taken_under_load_brings_every_request_before_it_to_a_verdict() {
    let place = TempDir::new().unwrap();
    let copy = place.join("copy");
    let ratebox = ready(Ratebox::up(|it| it.arg("--no-sample")).unwrap()).await;
    let http = ratebox.admin().unwrap();
    let (answered, is_done) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let load = async || {
        while !is_done.load(Ordering::SeqCst) {
            let answer = http
                .post_json("/api/validation/validate", &request(3))
                .await;
            let answer = answer.unwrap();
            assert_eq!(answer.status, 202, "{}", answer.text());
            let id = answer.json().unwrap()["request_id"]
                .as_str()
                .unwrap()
                .to_owned();
            answered.lock().unwrap().push(id);
        }
    };
    let take = async {
        wait_for(SOON, "some load", || async {
            (answered.lock().unwrap().len() >= 300).then_some(())
        })
        .await;
        let before: Vec<String> = answered.lock().unwrap().clone();
        let options = backup(ratebox.data_dir(), &copy);
        let taken = tokio::task::spawn_blocking(move || options.run()).await;
        is_done.store(true, Ordering::SeqCst);
        (before, taken.unwrap().unwrap())
    };
    let (_, (before, taken)) = tokio::join!(join_all((0..8).map(|_| load())), take);
    assert_eq!(taken.code, Some(0), "{taken:?}");
    assert_private(&copy);
    drop(ratebox);
    let again = Ratebox::up(|it| {
        let it = it.data_dir(&copy).arg("--no-sample");
        it.env("RATEBOX_RELAY__REPUBLISH_EVERY_MS", "1000")
    });
    let again = ready(again.unwrap()).await;
    let http = again.admin().unwrap();
    for id in &before {
        let path = format!("/api/validation/status/{id}?wait=5");
        let status = wait_for(SOON, "a verdict", || async {
            let answer = http.get(&path).await.ok()?.json().ok()?;
            (answer["status"] == "partial").then_some(answer)
        })
        .await;
        assert_eq!(status["results"].as_array().unwrap().len(), 3, "{status}");
    }
    let doctor = RateboxOptions::new("doctor").args(["--deep", "--data-dir"]);
    let doctor = doctor.arg(&copy).run().unwrap();
    assert_eq!(doctor.stdout.matches("is sound").count(), 2, "{doctor:?}");
}

fn assert_private(copy: &Path) {
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(copy), 0o700);
    for file in ["bus.db", "ratebox.db", "admin.token"] {
        assert_eq!(mode(&copy.join(file)), 0o600, "{file}");
    }
}

#[test]
fn a_backup_that_fails_leaves_nothing_that_looks_like_one() {
    let place = TempDir::new().unwrap();
    let (data, copy) = (place.join("data"), place.join("copy"));
    let refused = |to: &Path, why: &str| {
        let refused: Output = backup(&data, to).run().unwrap();
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(why), "{refused:?}");
    };
    refused(&copy, "there is no ");
    std::fs::create_dir(&data).unwrap();
    Db::sqlite(&SqliteSettings::new(data.join("bus.db"))).unwrap();
    std::fs::write(data.join("ratebox.db"), [b'x'; 8192]).unwrap();
    refused(&data, "not empty");
    refused(&copy, "damaged");
    let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = files
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_backup_that_was_killed_is_begun_anew_by_the_next_and_one_under_way_is_let_be() {
    let place = TempDir::new().unwrap();
    let (data, copy) = (place.join("data"), place.join("copy"));
    std::fs::create_dir(&data).unwrap();
    for file in ["bus.db", "ratebox.db"] {
        Db::sqlite(&SqliteSettings::new(data.join(file))).unwrap();
    }
    // The token is read last, and from a pipe for as long as nobody writes one: there it stands.
    let token = data.join("admin.token");
    let made = Command::new("mkfifo").arg(&token).status().unwrap();
    assert!(made.success());
    let mut first = backup(&data, &copy).start().unwrap();
    wait_until(SOON, "both databases are copied", || async {
        first.logs().contains("copied ratebox.db")
    })
    .await;
    let second = backup(&data, &copy).run().unwrap();
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains("is under way"), "{second:?}");
    let unfinished = place.join("copy.unfinished");
    assert_eq!(names(&unfinished), ["bus.db", "ratebox.db"]);
    first.kill9();
    assert!(unfinished.exists() && !copy.exists(), "nobody tidied up");
    std::fs::remove_file(&token).unwrap();
    std::fs::write(&token, "rb_live_x_y").unwrap();
    let third = backup(&data, &copy).run().unwrap();
    assert_eq!(third.code, Some(0), "{third:?}");
    assert!(third.stderr.contains("was cut off"), "{third:?}");
    assert_eq!(names(&copy), ["admin.token", "bus.db", "ratebox.db"]);
    assert_private(&copy);
    assert_eq!(names(place.path()), ["copy", "data"]);
}

#[test]
fn a_folder_that_no_backup_made_is_never_emptied() {
    let place = TempDir::new().unwrap();
    let (data, copy) = (place.join("data"), place.join("copy"));
    let kept = place.join("copy.unfinished");
    for folder in [&data, &kept] {
        std::fs::create_dir(folder).unwrap();
    }
    for file in ["bus.db", "ratebox.db"] {
        Db::sqlite(&SqliteSettings::new(data.join(file))).unwrap();
    }
    for file in ["bus.db", "notes"] {
        std::fs::write(kept.join(file), "mine").unwrap();
    }
    let refused = backup(&data, &copy).run().unwrap();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("something else"), "{refused:?}");
    assert_eq!(names(&kept), ["bus.db", "notes"]);
    // As somebody works on it.
    std::fs::remove_file(kept.join("notes")).unwrap();
    std::fs::write(kept.join("bus.db-wal"), "mine").unwrap();
    assert_eq!(backup(&data, &copy).run().unwrap().code, Some(1));
    assert_eq!(names(&kept), ["bus.db", "bus.db-wal"]);
    assert!(!copy.exists());
    let refused = backup(&data, &place.join("other.unfinished"))
        .run()
        .unwrap();
    assert!(refused.stderr.contains("another folder"), "{refused:?}");
    // The originals themselves, which somebody keeps under such a name.
    let named = place.join("data.unfinished");
    std::fs::rename(&data, &named).unwrap();
    let refused = backup(&named, &data).run().unwrap();
    assert!(refused.stderr.contains("something else"), "{refused:?}");
    assert_eq!(names(&named), ["bus.db", "ratebox.db"]);
}

#[test]
fn a_journal_of_its_own_is_copied_with_the_rest() {
    let place = TempDir::new().unwrap();
    let (data, copy) = (place.join("data"), place.join("copy"));
    std::fs::create_dir(&data).unwrap();
    for file in ["data/bus.db", "data/ratebox.db", "sagas.db", "bus.db"] {
        Db::sqlite(&SqliteSettings::new(place.join(file))).unwrap();
    }
    let with = |journal: &str| {
        let url = format!("sqlite:{}", place.join(journal).display());
        let options = backup(&data, &copy).env("RATEBOX_SAGA__STORE_URL", url);
        options.run().unwrap()
    };
    let refused = with("bus.db");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("another database"), "{refused:?}");
    let refused = with("nowhere.db");
    assert!(refused.stderr.contains("not there"), "{refused:?}");
    std::fs::remove_dir_all(&copy).unwrap();
    let taken = with("sagas.db");
    assert_eq!(taken.code, Some(0), "{taken:?}");
    assert!(taken.stderr.contains("saga.store_url"), "{taken:?}");
    assert_eq!(names(&copy), ["bus.db", "ratebox.db", "sagas.db"]);
}
