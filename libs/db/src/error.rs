//! Why the database could not serve a call.
//!
//! The texts name codes and constraints, never values: a server's own message may quote the data,
//! so it is not shown. The one exception is a missing right, where it names a table and nothing else.

use std::ffi::c_int;
use std::path::Path;

use ratebox_kit::Causes;
use rusqlite::ffi;
use tokio_postgres::error::DbError;

use crate::room::NO_WRITES;

/// SQLSTATE of a right that the user lacks.
pub(crate) const DENIED: &str = "42501";

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database could not be reached, or the link broke. What was under way may or may not
    /// have happened.
    #[error("no connection to the database: {what}")]
    Connection {
        /// What was tried or lost.
        what: String,
    },
    /// The server knows neither user nor password nor database, takes no writes, or the user lacks a
    /// right. Nothing happened, and nothing is wrong with the data: somebody must change the server
    /// or the settings.
    #[error("PostgreSQL refused the call ({code}): {}", refusal(.code, .said))]
    Refused {
        /// SQLSTATE.
        code: String,
        /// What is missing and what to do, where more is known than the code.
        said: Option<String>,
    },
    /// No answer in time. The call may or may not have happened.
    #[error("no answer from the database within {waited_ms} ms")]
    Timeout {
        /// How long we waited.
        waited_ms: u64,
    },
    /// A row with this key exists already.
    #[error("a row of {constraint} exists already")]
    Exists {
        /// The unique constraint's name, or what is known of it.
        constraint: String,
    },
    /// A constraint refused a row.
    #[error("constraint {constraint} refused a row")]
    Constraint {
        /// The constraint's name, or what is known of it.
        constraint: String,
    },
    /// A value does not fit its column.
    #[error("a value was refused (code {code})")]
    Value {
        /// SQLSTATE, or SQLite's extended result code.
        code: String,
    },
    /// Another transaction stood in the way; the same call may succeed now.
    #[error("another transaction was in the way (code {code})")]
    Contention {
        /// SQLSTATE, or SQLite's extended result code.
        code: String,
    },
    /// The server has no room: disk full or out of memory.
    #[error("the database has no room left (code {code})")]
    Full {
        /// SQLSTATE, or SQLite's extended result code and, when it is opened, its file.
        code: String,
    },
    /// The file's name is gone or means another file, while this process works on what had it: what it
    /// writes is found by nobody.
    #[error("{file} was removed or replaced while it was in use")]
    Gone {
        /// The file.
        file: String,
    },
    /// The file is no database, or its pages contradict one another. Nobody mends that by waiting.
    #[error("the file of the database is damaged (code {code})")]
    Damaged {
        /// SQLite's extended result code and, when it is opened, its file.
        code: String,
    },
    /// The statement itself was refused: a bug or a missing migration.
    #[error("the database refused a statement (code {code})")]
    Statement {
        /// SQLSTATE, or SQLite's extended result code.
        code: String,
    },
    /// An earlier statement of this transaction failed, so nothing of it can be committed.
    #[error("the transaction had already failed")]
    Failed,
    /// An answer lacks the column that the caller expects.
    #[error("column {index} is missing or of another type")]
    Column {
        /// Position in the row, from 0.
        index: usize,
    },
    /// Columns of one statement differ in length.
    #[error("columns of one statement differ in length")]
    Shape,
    /// A setting cannot work.
    #[error("{what}")]
    Settings {
        /// What to change.
        what: String,
    },
    /// A migration failed; nothing of it was kept.
    #[error("migration {owner}/{version} failed: {what}")]
    Migration {
        /// Whose migration.
        owner: String,
        /// Which one.
        version: i64,
        /// The server's own words: migrations hold no personal data.
        what: String,
    },
}

impl Error {
    /// Worth trying again, unchanged.
    pub fn is_retryable(&self) -> bool {
        self.is_outage() || matches!(self, Self::Contention { .. })
    }

    /// The database is away, full or locked to us: nothing is wrong with the data, waiting helps, or
    /// somebody who mends it.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Connection { .. }
                | Self::Refused { .. }
                | Self::Timeout { .. }
                | Self::Full { .. }
                | Self::Gone { .. }
        )
    }

    /// The server is there and will have nothing to do with us: who starts need not wait for it.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// Some row of the call is to blame: a batch should be split to find it.
    pub fn is_data(&self) -> bool {
        matches!(
            self,
            Self::Exists { .. } | Self::Constraint { .. } | Self::Value { .. }
        )
    }

    /// A row with the same key was there before.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Exists { .. })
    }

    /// The file itself is broken: only a backup helps.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    /// Says which file it is about, where it is about a file.
    pub(crate) fn of(self, file: &Path) -> Self {
        let file = file.display();
        match self {
            Self::Connection { what } => Self::Connection {
                what: format!("{what}: {file}"),
            },
            Self::Full { code } => Self::Full {
                code: format!("{code}, {file}"),
            },
            Self::Damaged { code } => Self::Damaged {
                code: format!("{code}, {file}"),
            },
            other => other,
        }
    }

    /// A stable word for metrics and dead letters.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Connection { .. } => "db.connection",
            Self::Refused { .. } => "db.refused",
            Self::Timeout { .. } => "db.timeout",
            Self::Exists { .. } => "db.exists",
            Self::Constraint { .. } => "db.constraint",
            Self::Value { .. } => "db.value",
            Self::Contention { .. } => "db.contention",
            Self::Full { .. } => "db.full",
            Self::Gone { .. } => "db.gone",
            Self::Damaged { .. } => "db.damaged",
            Self::Statement { .. } => "db.statement",
            Self::Failed => "db.failed",
            Self::Column { .. } => "db.column",
            Self::Shape => "db.shape",
            Self::Settings { .. } => "db.settings",
            Self::Migration { .. } => "db.migration",
        }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(server) = error.as_db_error() else {
            return if error.is_closed() {
                Self::Connection {
                    what: "the link to PostgreSQL broke".to_owned(),
                }
            } else if std::error::Error::source(&error).is_some_and(is_io) {
                Self::Connection {
                    what: Causes(&error).to_string(),
                }
            } else if error.to_string().contains("serializ")
                || error.to_string().contains("convert")
            {
                Self::Value {
                    code: "client.encode".to_owned(),
                }
            } else {
                Self::Connection {
                    what: error.to_string(),
                }
            };
        };
        let code = server.code().code().to_owned();
        let constraint = || {
            server
                .constraint()
                .map_or_else(|| code.clone(), ToOwned::to_owned)
        };
        match code.get(..2).unwrap_or_default() {
            // No such user or password; no such database; no writes; a right that the user has not.
            "28" | "3D" => Self::Refused { code, said: None },
            _ if code == NO_WRITES => Self::Refused { code, said: None },
            _ if code == DENIED => Self::Refused {
                code,
                said: missing_right(server),
            },
            "54" if is_used_up(server) => Self::Full { code },
            // P0 is what a trigger or function raises about a row; 54 a limit that it goes beyond, such
            // as that of an index or of JSON's depth.
            "22" | "54" | "P0" => Self::Value { code },
            "23" if code == "23505" => Self::Exists {
                constraint: constraint(),
            },
            "23" => Self::Constraint {
                constraint: constraint(),
            },
            "40" | "55" => Self::Contention { code },
            "53" if code == "53300" => Self::Connection {
                what: "PostgreSQL has no connection to give (53300)".to_owned(),
            },
            "53" => Self::Full { code },
            // 58 is what the system under the server could not do, such as read a file.
            "08" | "57" | "58" | "25" => Self::Connection {
                what: format!("PostgreSQL ended the call ({code})"),
            },
            _ => Self::Statement { code },
        }
    }
}

fn refusal<'a>(code: &str, said: &'a Option<String>) -> &'a str {
    said.as_deref().unwrap_or_else(|| advice(code))
}

/// The server's words, such as "permission denied for table outbox". They are taken from the checks
/// of rights alone, which the server names in no language: whoever raises this code in a function
/// of their own may quote the data.
fn missing_right(server: &DbError) -> Option<String> {
    let by = server.routine().unwrap_or_default();
    let is_check = by.starts_with("aclcheck_error") || by == "ExecWithCheckOptions";
    is_check.then(|| {
        let said = server.message();
        format!("{said}; grant that right, or use the user who owns the tables")
    })
}

/// Whether a limit is the whole database's, and no row's fault: ids of transactions are used up, or a
/// table is as large as one can be. The server names the functions that say so.
fn is_used_up(server: &DbError) -> bool {
    let by = server.routine().unwrap_or_default();
    by.starts_with("GetNew") || by.contains("xtend")
}

/// What to do about a refusal.
fn advice(code: &str) -> &'static str {
    match code.get(..2) {
        Some("3D") => "there is no such database; create it or correct the address",
        Some("42") => "a right is missing; grant it, or use the user who owns the tables",
        Some("25") => "it takes no writes: a standby, or set to read-only; use the primary",
        Some("28") => "correct the user and the password, or what pg_hba.conf says of them",
        _ => "see what the server's log says",
    }
}

fn is_io(source: &(dyn std::error::Error + 'static)) -> bool {
    source.is::<std::io::Error>()
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let Some(failure) = error.sqlite_error() else {
            return Self::Statement {
                code: "client".to_owned(),
            };
        };
        let code = failure.extended_code.to_string();
        match failure.code {
            Code::ConstraintViolation if is_duplicate(failure.extended_code) => {
                Self::Exists { constraint: code }
            }
            Code::ConstraintViolation => Self::Constraint { constraint: code },
            Code::TypeMismatch | Code::TooBig => Self::Value { code },
            Code::DatabaseBusy | Code::DatabaseLocked => Self::Contention { code },
            Code::DiskFull | Code::OutOfMemory => Self::Full { code },
            Code::SystemIoFailure if NO_ROOM.contains(&failure.extended_code) => {
                Self::Full { code }
            }
            Code::SystemIoFailure | Code::CannotOpen | Code::ReadOnly => Self::Connection {
                what: format!("{} ({code})", out_of_reach(failure)),
            },
            Code::DatabaseCorrupt | Code::NotADatabase => Self::Damaged { code },
            Code::Unknown if failure.extended_code == 1 && error.to_string().contains("JSON") => {
                Self::Value { code }
            }
            _ => Self::Statement { code },
        }
    }
}

/// What a file answers that cannot grow: a full disk does not always say so.
const NO_ROOM: [c_int; 2] = [ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR_WRITE];

/// Why SQLite cannot work on its file, and what to look at.
fn out_of_reach(failure: &ffi::Error) -> &'static str {
    use rusqlite::ErrorCode as Code;
    match failure.code {
        Code::ReadOnly if failure.extended_code == ffi::SQLITE_READONLY_DBMOVED => {
            "SQLite's file was moved or removed"
        }
        Code::ReadOnly => {
            "SQLite may not write to its file; check the rights of the file and of its folder"
        }
        Code::CannotOpen => {
            "SQLite cannot open its file; check that its folder is there, and the rights of both"
        }
        _ => "SQLite could not reach its file",
    }
}

/// A primary key, a unique index, or a row id.
fn is_duplicate(extended_code: c_int) -> bool {
    [
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
        ffi::SQLITE_CONSTRAINT_UNIQUE,
        ffi::SQLITE_CONSTRAINT_ROWID,
    ]
    .contains(&extended_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_sqlite(code: c_int) -> Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None).into()
    }

    #[test]
    fn no_room_no_right_and_a_broken_file_are_told_apart() {
        for code in [
            ffi::SQLITE_FULL,
            ffi::SQLITE_IOERR_SHMSIZE,
            ffi::SQLITE_IOERR_WRITE,
        ] {
            let error = of_sqlite(code);
            assert!(matches!(error, Error::Full { .. }), "{error}");
        }
        for (code, word) in [
            (ffi::SQLITE_READONLY, "rights"),
            (ffi::SQLITE_READONLY_DIRECTORY, "rights"),
            (ffi::SQLITE_CANTOPEN, "rights"),
            (ffi::SQLITE_READONLY_DBMOVED, "removed"),
            (ffi::SQLITE_IOERR_READ, "reach"),
        ] {
            let error = of_sqlite(code);
            let said = error.to_string();
            assert!(error.is_outage() && said.contains(word), "{said}");
        }
        for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB] {
            let error = of_sqlite(code).of(Path::new("x.db"));
            assert!(error.is_damage() && !error.is_outage(), "{error}");
            assert!(error.to_string().contains("x.db"), "{error}");
        }
    }
}
