//! PostgreSQL: a pool, and transactions whose statements are pipelined.

mod encode;
mod joined;
mod listen;
mod send;
mod tx;

use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, QueueMode, RecyclingMethod, Runtime, Timeouts,
};
use futures_util::future::try_join_all;
use ratebox_kit::Secret;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, NoTls, Row as PgRow};

pub use self::listen::Listener;
pub(crate) use self::tx::PostgresTx;
use crate::insert::Form;
use crate::sql::Call;
use crate::{Error, Insert, Result, Row, Statement};

/// How to reach PostgreSQL.
#[derive(Clone, Debug)]
pub struct PostgresSettings {
    /// `postgresql://user:password@host:port/database`.
    pub dsn: Secret,
    /// The schema that holds our tables; made by the first migration.
    pub schema: String,
    /// Connections at most.
    pub pool_max: usize,
    /// Time to wait for a connection, in all.
    pub connect_timeout: Duration,
    /// The server ends a statement after this long.
    pub statement_timeout: Duration,
}

impl PostgresSettings {
    /// Defaults for a DSN: schema `ratebox`, 16 connections, 5 s to connect, 30 s a statement.
    pub fn new(dsn: Secret) -> Self {
        Self {
            dsn,
            schema: "ratebox".to_owned(),
            pool_max: 16,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
        }
    }
}

/// The pool behind [`crate::Db`].
#[derive(Debug)]
pub(crate) struct Postgres {
    pool: Pool,
    config: Config,
    call_timeout: Duration,
}

impl Postgres {
    pub(crate) fn new(settings: &PostgresSettings) -> Result<Self> {
        let config = config(settings)?;
        let recycling_method = RecyclingMethod::Fast;
        let manager =
            Manager::from_config(config.clone(), NoTls, ManagerConfig { recycling_method });
        let wait = Some(settings.connect_timeout);
        let pool = Pool::builder(manager)
            .max_size(settings.pool_max)
            // The connection that was used last has its plans and pages in the processor's cache.
            .queue_mode(QueueMode::Lifo)
            .timeouts(Timeouts {
                wait,
                create: wait,
                recycle: wait,
            })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| Error::Settings {
                what: error.to_string(),
            })?;
        // The server ends a statement first; this one is for links that hang.
        let call_timeout = settings.statement_timeout + Duration::from_secs(5);
        Ok(Self {
            pool,
            config,
            call_timeout,
        })
    }

    pub(crate) async fn begin(&self) -> Result<PostgresTx> {
        Ok(PostgresTx::new(self.client().await?, self.call_timeout))
    }

    pub(crate) async fn query(&self, statement: Statement) -> Result<Vec<Row>> {
        let ask = statement.into_call()?;
        let client = self.client().await?;
        let call = async {
            let prepared = send::prepare_call(&client, &ask).await?;
            client.query(&prepared, &params(&ask)).await
        };
        let answer = within(self.call_timeout, call).await;
        match answer {
            Ok(rows) => rows.iter().map(decode_row).collect(),
            Err(error) => {
                // A server that does not answer, or a connection that no longer knows what was
                // prepared, would be the next to be used again.
                if !leaves_whole(&error) {
                    drop(Object::take(client));
                }
                Err(error)
            }
        }
    }

    pub(crate) async fn prepare(&self, text: &str) -> Result<()> {
        let client = self.client().await?;
        within(self.call_timeout, client.prepare(text))
            .await
            .map(drop)
    }

    pub(crate) async fn prepare_insert(&self, insert: &Insert) -> Result<()> {
        let client = self.client().await?;
        for form in [Form::Row, Form::Unnest, Form::Copy] {
            let prepared = within(self.call_timeout, client.prepare(insert.text(form))).await?;
            let row = prepared.params().iter().filter(|_| form == Form::Row);
            for (column, ty) in row.enumerate() {
                encode::expect(insert.wire(column), ty).map_err(|error| Error::Settings {
                    what: error.to_string(),
                })?;
            }
        }
        Ok(())
    }

    pub(crate) async fn script(&self, text: &str) -> Result<()> {
        let client = Lent(Some(self.client().await?));
        // A script may take its time: only the server's own limits apply.
        let Err(error) = client.run(text).await else {
            client.give_back();
            return Ok(());
        };
        // The connection may still be in the script's transaction.
        if client.run("ROLLBACK").await.is_ok() {
            client.give_back();
        }
        Err(match error.as_db_error() {
            Some(server) if *server.code() == SqlState::INSUFFICIENT_PRIVILEGE => error.into(),
            Some(server) => Error::Settings {
                what: server.to_string(),
            },
            None => error.into(),
        })
    }

    /// A connection of its own, outside the pool.
    pub(crate) async fn listen(&self, channel: &str) -> Result<Listener> {
        Listener::open(&self.config, channel).await
    }

    pub(crate) async fn warm_up(&self, count: usize) -> Result<()> {
        let connections = (0..count.min(self.pool.status().max_size)).map(|_| self.client());
        // All of them are held until the last is there, or one would be taken twice.
        try_join_all(connections).await.map(drop)
    }

    async fn client(&self) -> Result<Object> {
        use deadpool_postgres::PoolError;
        self.pool.get().await.map_err(|error| match error {
            // No data is to blame for what is said to whoever connects, whatever its code.
            PoolError::Backend(error) => match Error::from(error) {
                Error::Statement { code }
                | Error::Value { code }
                | Error::Constraint { constraint: code }
                | Error::Exists { constraint: code } => Error::Connection {
                    what: format!("PostgreSQL refused the connection ({code})"),
                },
                other => other,
            },
            PoolError::Timeout(_) => Error::Connection {
                what: "no connection to PostgreSQL in time".to_owned(),
            },
            other => Error::Connection {
                what: other.to_string(),
            },
        })
    }
}

/// Whether the server refused the call alone, and its connection is as good as before: to close it
/// would have every such call log in anew.
fn leaves_whole(error: &Error) -> bool {
    // No right, no table, no column.
    const OF_THE_CALL: [&str; 3] = ["42501", "42P01", "42703"];
    match error {
        Error::Contention { .. } => true,
        Error::Refused { code, .. } | Error::Statement { code } => {
            OF_THE_CALL.contains(&code.as_str())
        }
        other => other.is_data(),
    }
}

/// A connection that is closed, and not given back, unless its work came to an end: a script that was
/// cancelled may leave its transaction open.
struct Lent(Option<Object>);

impl Lent {
    async fn run(&self, text: &str) -> std::result::Result<(), tokio_postgres::Error> {
        match &self.0 {
            Some(client) => client.batch_execute(text).await,
            None => Ok(()),
        }
    }

    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Object::take(client));
        }
    }
}

/// Why a DSN that asks for TLS is refused.
const PLAIN: &str = "the PostgreSQL DSN asks for TLS, which is not spoken here: use a socket, a private \
                     network or a tunnel, and leave sslmode out";

fn config(settings: &PostgresSettings) -> Result<Config> {
    let dsn = settings.dsn.reveal();
    let mut config: Config = dsn.parse().map_err(|_| Error::Settings {
        what: match ["sslmode=verify", "sslrootcert=", "sslcert="]
            .iter()
            .any(|it| dsn.contains(it))
        {
            true => PLAIN.to_owned(),
            false => "the PostgreSQL DSN cannot be read; write \
                      postgresql://user:password@host:port/database"
                .to_owned(),
        },
    })?;
    if config.get_ssl_mode() == SslMode::Require {
        return Err(Error::Settings {
            what: PLAIN.to_owned(),
        });
    }
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(Error::Settings {
            what: "the PostgreSQL DSN names no host; write postgresql://user:password@host:port/database"
                .to_owned(),
        });
    }
    if !settings
        .schema
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    {
        return Err(Error::Settings {
            // Without quotes the server reads capitals as small letters.
            what: "the schema's name may hold a-z, 0-9 and _, and no capitals".to_owned(),
        });
    }
    // Arrays of any length make PostgreSQL plan a prepared statement anew each time, which costs
    // more than running it; our statements have one good plan.
    let options = format!(
        "-c search_path={} -c statement_timeout={} -c idle_in_transaction_session_timeout=60000 \
         -c plan_cache_mode=force_generic_plan {}",
        settings.schema,
        settings.statement_timeout.as_millis(),
        config.get_options().unwrap_or_default(),
    );
    config
        .options(options)
        .application_name("ratebox")
        .connect_timeout(settings.connect_timeout)
        .keepalives_idle(Duration::from_secs(15))
        .tcp_user_timeout(Duration::from_secs(15));
    Ok(config)
}

/// The call's columns and values as parameters, in this order.
fn params(call: &Call) -> Vec<&(dyn ToSql + Sync)> {
    let columns = call.columns.iter().map(|it| it as &(dyn ToSql + Sync));
    columns
        .chain(call.values.iter().map(|it| it as _))
        .collect()
}

fn decode_row(row: &PgRow) -> Result<Row> {
    let values = (0..row.len()).map(|index| row.try_get(index).map_err(Error::from));
    values.collect::<Result<Vec<_>>>().map(Row)
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
) -> Result<T> {
    timeout(limit, async { Ok(call.await?) }).await
}

async fn timeout<T>(limit: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        Err(Error::Timeout {
            waited_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        })
    })
}
