//! What must not compile, and that the compiler says why.
//!
//! Each snippet is compiled against the library that this test was linked with.

use std::path::{Path, PathBuf};
use std::process::Command;

use ratebox_testkit::TempDir;

const PRELUDE: &str = "
use ratebox_stream::handler::{Batch, Failure, Json, NoEffects, Router, State, Tx};
";

/// Compiles and returns what the compiler said, or `None` when it was content.
fn compile(body: &str) -> Option<String> {
    let folder = TempDir::new().unwrap();
    let source = folder.path().join("snippet.rs");
    std::fs::write(
        &source,
        format!("{PRELUDE}\n{body}\nfn main() {{ run() }}\n"),
    )
    .unwrap();
    let deps = std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .to_owned();
    let mut rustc = Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned()));
    rustc
        .arg(&source)
        .args(["--edition", "2024", "--emit=metadata", "--cap-lints=allow"]);
    rustc.arg("-o").arg(folder.path().join("snippet.rmeta"));
    rustc
        .arg("-L")
        .arg(format!("dependency={}", deps.display()));
    rustc
        .arg("--extern")
        .arg(format!("ratebox_stream={}", library(&deps).display()));
    let output = rustc.output().unwrap();
    (!output.status.success()).then(|| String::from_utf8(output.stderr).unwrap())
}

/// The newest build of this crate: the one that this test was linked with.
fn library(deps: &Path) -> PathBuf {
    let files = std::fs::read_dir(deps)
        .unwrap()
        .map(|file| file.unwrap().path());
    let ours = files.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libratebox_stream-") && name.ends_with(".rlib")
    });
    ours.max_by_key(|path| path.metadata().unwrap().modified().unwrap())
        .unwrap()
}

#[track_caller]
fn refuses(body: &str, words: &[&str]) {
    let said = compile(body).expect("this must not compile");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in\n{said}");
    }
}

#[test]
fn what_should_compile_does() {
    let said = compile(
        "async fn works(State(_n): State<u8>, Json(_b): Json<u32>) -> Result<NoEffects, Failure> {
            Ok(NoEffects)
        }
        ratebox_stream::handler_check!(works(State<u8>, Json<u32>) -> Result<NoEffects, Failure>, u8);
        fn run() { let _ = Router::with_state(1_u8).on(\"a\", works); }",
    );
    assert_eq!(said, None);
}

#[test]
fn a_handler_cannot_acknowledge_by_returning_nothing() {
    refuses(
        "async fn forgets(Json(_b): Json<u32>) {}
        ratebox_stream::handler_check!(forgets(Json<u32>) -> (), ());
        fn run() { let _ = Router::new().on(\"a\", forgets); }",
        &[
            "a handler cannot return `()`",
            "return a `Proof` (`Committed`, `Idempotent`, `NoEffects`)",
        ],
    );
}

#[test]
fn a_proof_cannot_be_forged() {
    refuses(
        "fn run() { let _ = ratebox_stream::handler::Idempotent { _made_with_a_reason: () }; }",
        &["private"],
    );
    refuses(
        "struct Trust;
        impl ratebox_stream::handler::Proof for Trust {}
        fn run() {}",
        &["Sealed"],
    );
}

#[test]
fn an_argument_that_is_no_extractor_is_named() {
    refuses(
        "async fn wants(_text: String) -> NoEffects { NoEffects }
        ratebox_stream::handler_check!(wants(String) -> NoEffects, ());
        fn run() {}",
        &[
            "`String` cannot be an argument of a handler whose state is `()`",
            "extractors are `Json<T>`",
        ],
    );
}

#[test]
fn a_router_without_the_state_that_a_handler_asks_for_is_refused() {
    refuses(
        "async fn wants(_s: State<String>) -> NoEffects { NoEffects }
        ratebox_stream::handler_check!(wants(State<String>) -> NoEffects, u8);
        fn run() {}",
        &[
            "`String` is no part of the state `u8`",
            "implement `FromRef<u8>` for `String`",
        ],
    );
    refuses(
        "async fn wants(tx: Tx) -> Result<NoEffects, Failure> { drop(tx); Ok(NoEffects) }
        fn run() { let _ = Router::new().on(\"a\", wants); }",
        &[
            "cannot handle messages of a router with state `()`",
            "`handler_check!` tells",
        ],
    );
}

#[test]
fn an_error_that_decides_nothing_is_refused() {
    refuses(
        "async fn fails() -> Result<NoEffects, std::fmt::Error> { Ok(NoEffects) }
        ratebox_stream::handler_check!(fails() -> Result<NoEffects, std::fmt::Error>, ());
        fn run() {}",
        &[
            "a handler cannot return `Result<NoEffects, std::fmt::Error>`",
            "any other error says it in place: `.or_retry(",
        ],
    );
}

#[test]
fn a_message_of_a_batch_cannot_be_decided_twice() {
    refuses(
        "async fn twice(batch: Batch<Json<u8>>) -> Vec<ratebox_stream::handler::Decided> {
            let mut decided = Vec::new();
            for item in batch {
                decided.push(item.done(&NoEffects));
                decided.push(item.done(&NoEffects));
            }
            decided
        }
        fn run() {}",
        &["use of moved value: `item`"],
    );
}
