//! The log in a SQLite file, on a clock that the cases move.

use std::sync::Arc;

use async_trait::async_trait;
use ratebox_db::{Db, SqliteSettings};
use ratebox_kit::{Clock, Message, Timestamp};
use ratebox_stream::conformance::{Bed, Sabotage, Waits};
use ratebox_stream::{Admin, Append, EntryId, Log, SqliteLog, StreamName};
use ratebox_testkit::TempDir;

ratebox_stream::conformance!(bed);

async fn bed() -> Bed {
    let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
    let folder = TempDir::new().unwrap();
    let db = Db::sqlite(&SqliteSettings::new(folder.join("bus.db"))).unwrap();
    let log = Arc::new(SqliteLog::open(db, clock.clone()).await.unwrap());
    Bed::new(
        log.clone(),
        log.clone(),
        Arc::new(Saboteur {
            log,
            _folder: folder,
        }),
        Waits::Moves(clock),
    )
}

/// Holds the folder, which must outlive the log.
struct Saboteur {
    log: Arc<SqliteLog>,
    _folder: TempDir,
}

#[async_trait]
impl Sabotage for Saboteur {
    async fn lose_entry(&self, stream: &StreamName, id: EntryId) {
        self.log.lose_entry(stream, id).await.unwrap();
    }

    async fn lose_stream(&self, stream: &StreamName) {
        self.log.lose_stream(stream).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_appended_is_there_after_the_file_is_opened_again() {
    let folder = TempDir::new().unwrap();
    let settings = SqliteSettings::new(folder.path().join("bus.db"));
    let stream = StreamName::new("s");
    let open = || async {
        let db = Db::sqlite(&settings).unwrap();
        SqliteLog::open(db, Clock::system()).await.unwrap()
    };
    let appended = Append::new(stream.clone(), Message::new("m", "body"));
    let id = *open().await.append(&[appended]).await[0].as_ref().unwrap();
    let entries = open().await.peek(&stream, EntryId::MIN, 10).await.unwrap();
    assert_eq!(entries[0].id, id);
    assert_eq!(entries[0].field("data").unwrap(), "body");
}
