//! The store that steno asks its users for: sagas and their log in PostgreSQL, one statement a call.

use async_trait::async_trait;
use deadpool_postgres::{Manager, Pool};
use serde_json::Value;
use steno::{SagaCachedState, SagaCreateParams, SagaId, SagaNodeEvent, SecStore};
use tokio_postgres::NoTls;
use uuid::Uuid;

/// As many connections as its own measurement elsewhere had.
const CONNECTIONS: usize = 16;

const TABLES: &str = "DROP TABLE IF EXISTS steno_events, steno_sagas;
    CREATE TABLE steno_sagas (id uuid PRIMARY KEY, name text NOT NULL, dag jsonb NOT NULL,
        state text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE steno_events (saga uuid NOT NULL, node bigint NOT NULL, kind text NOT NULL,
        data jsonb, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (saga, node, kind))";

#[derive(Debug)]
pub struct Postgres {
    pool: Pool,
}

impl Postgres {
    /// Over `PG_DSN`, with empty tables.
    pub async fn connect() -> Self {
        let dsn = std::env::var("PG_DSN").expect("PG_DSN");
        let manager = Manager::new(dsn.parse().expect("a DSN"), NoTls);
        let pool = Pool::builder(manager).max_size(CONNECTIONS).build();
        let pool = pool.expect("a pool");
        let client = pool.get().await.expect("PostgreSQL");
        client.batch_execute(TABLES).await.expect("tables");
        Self { pool }
    }

    /// Rows of sagas and of events.
    pub async fn counts(&self) -> (i64, i64) {
        let client = self.pool.get().await.expect("PostgreSQL");
        let text = "SELECT (SELECT count(*) FROM steno_sagas), (SELECT count(*) FROM steno_events)";
        let row = client.query_one(text, &[]).await.expect("counts");
        (row.get(0), row.get(1))
    }
}

#[async_trait]
impl SecStore for Postgres {
    async fn saga_create(&self, params: SagaCreateParams) -> Result<(), anyhow::Error> {
        let client = self.pool.get().await?;
        let text = "INSERT INTO steno_sagas (id, name, dag, state) VALUES ($1, $2, $3, $4)";
        let insert = client.prepare_cached(text).await?;
        let (name, state) = (params.name.to_string(), params.state.to_string());
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&uuid(params.id), &name, &params.dag, &state];
        client.execute(&insert, &values).await?;
        Ok(())
    }

    async fn record_event(&self, event: SagaNodeEvent) {
        let client = self.pool.get().await.expect("PostgreSQL");
        let text = "INSERT INTO steno_events (saga, node, kind, data) VALUES ($1, $2, $3, $4)";
        let insert = client.prepare_cached(text).await.expect("prepared");
        let node = i64::from(u32::from(event.node_id));
        let said = serde_json::to_value(&event.event_type).expect("JSON");
        let (kind, data) = match said {
            Value::Object(fields) => {
                let (kind, data) = fields.into_iter().next().expect("one kind");
                (kind, Some(data))
            }
            Value::String(kind) => (kind, None),
            other => (other.to_string(), None),
        };
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&uuid(event.saga_id), &node, &kind, &data];
        client.execute(&insert, &values).await.expect("recorded");
    }

    async fn saga_update(&self, id: SagaId, state: SagaCachedState) {
        let client = self.pool.get().await.expect("PostgreSQL");
        let text = "UPDATE steno_sagas SET state = $2 WHERE id = $1";
        let update = client.prepare_cached(text).await.expect("prepared");
        let state = state.to_string();
        client.execute(&update, &[&uuid(id), &state]).await.expect("updated");
    }
}

fn uuid(id: SagaId) -> Uuid {
    id.to_string().parse().expect("an id is a UUID")
}
