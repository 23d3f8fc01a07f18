//! steno over a plain PostgreSQL store: five steps that do nothing, a → b, c → d → e. `W4_CONC`
//! clients start one and wait for its end, `W4_N` in all, after a tenth of that to warm up.
//!
//! steno brings no store; this one is what its documentation asks for: a row a saga, a row an event
//! of its log, each on disk before steno goes on.

mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use steno::{
    ActionContext, ActionError, ActionRegistry, DagBuilder, Node, SagaDag, SagaId, SagaName,
    SagaType, SecClient, new_action_noop_undo,
};
use uuid::Uuid;

use store::Postgres;

/// The type that binds a saga's parts.
#[derive(Debug)]
struct Diamond;

impl SagaType for Diamond {
    type ExecContextType = ();
}

type Context = ActionContext<Diamond>;
type Action = Arc<dyn steno::Action<Diamond>>;

async fn first(context: Context) -> Result<i64, ActionError> {
    context.saga_params::<i64>()
}

async fn of_a(context: Context) -> Result<i64, ActionError> {
    context.lookup("a")
}

async fn of_b_and_c(context: Context) -> Result<i64, ActionError> {
    let _: i64 = context.lookup("c")?;
    context.lookup("b")
}

async fn of_d(context: Context) -> Result<i64, ActionError> {
    context.lookup("d")
}

fn actions() -> [Action; 5] {
    [
        new_action_noop_undo("a", first),
        new_action_noop_undo("b", of_a),
        new_action_noop_undo("c", of_a),
        new_action_noop_undo("d", of_b_and_c),
        new_action_noop_undo("e", of_d),
    ]
}

/// A graph is made for each saga, as the examples of steno do.
fn dag(actions: &[Action; 5], number: i64) -> Arc<SagaDag> {
    let [a, b, c, d, e] = actions;
    let mut builder = DagBuilder::new(SagaName::new("diamond"));
    builder.append(Node::action("a", "A", &**a));
    builder.append_parallel(vec![Node::action("b", "B", &**b), Node::action("c", "C", &**c)]);
    builder.append(Node::action("d", "D", &**d));
    builder.append(Node::action("e", "E", &**e));
    let dag = builder.build().expect("the graph is sound");
    Arc::new(SagaDag::new(dag, serde_json::json!(number)))
}

/// What all clients share.
struct Shared {
    sec: SecClient,
    actions: [Action; 5],
    registry: Arc<ActionRegistry<Diamond>>,
    number: AtomicI64,
}

/// Runs sagas until so many were begun; how long each took, in milliseconds.
async fn client(shared: Arc<Shared>, end: i64) -> Vec<f64> {
    let mut took = Vec::new();
    loop {
        let number = shared.number.fetch_add(1, Ordering::Relaxed);
        if number >= end {
            return took;
        }
        let began = Instant::now();
        let id: SagaId = Uuid::new_v4().to_string().parse().expect("an id");
        let dag = dag(&shared.actions, number);
        let registry = Arc::clone(&shared.registry);
        let ended = shared.sec.saga_create(id, Arc::new(()), dag, registry).await;
        let ended = ended.expect("created");
        shared.sec.saga_start(id).await.expect("started");
        let output = ended.await.kind.expect("completed");
        let output: i64 = output.lookup_node_output("e").expect("a number");
        assert_eq!(output, number);
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
}

async fn closed_loop(shared: &Arc<Shared>, clients: usize, sagas: i64) -> Vec<f64> {
    shared.number.store(0, Ordering::Relaxed);
    let tasks: Vec<_> = (0..clients)
        .map(|_| tokio::spawn(client(Arc::clone(shared), sagas)))
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.expect("a client"));
    }
    took
}

fn setting(name: &str, default: i64) -> i64 {
    let given = std::env::var(name).ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Seconds of this process on the CPU.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks: f64 = [11, 12].iter().map(|at| fields[*at].parse::<f64>().expect("ticks")).sum();
    ticks / 100.0
}

#[tokio::main]
async fn main() {
    let clients = usize::try_from(setting("W4_CONC", 32)).expect("a number of clients");
    let sagas = setting("W4_N", 2_000);
    let store = Arc::new(Postgres::connect().await);
    let log = slog::Logger::root(slog::Discard, slog::o!());
    let actions = actions();
    let mut registry = ActionRegistry::new();
    for action in &actions {
        registry.register(Arc::clone(action));
    }
    let shared = Arc::new(Shared {
        sec: steno::sec(log, Arc::clone(&store) as Arc<dyn steno::SecStore>),
        actions,
        registry: Arc::new(registry),
        number: AtomicI64::new(0),
    });
    closed_loop(&shared, clients, (sagas / 10).max(100)).await;
    let (began, cpu) = (Instant::now(), cpu_s());
    let mut took = closed_loop(&shared, clients, sagas).await;
    let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_s() - cpu);
    took.sort_by(f64::total_cmp);
    let rank = |share: f64| took[((took.len() - 1) as f64 * share).round() as usize];
    let (rows, events) = store.counts().await;
    println!(
        "{{\"workload\":\"W4\",\"peer\":\"steno-postgres-c{clients}\",\"sagas\":{sagas},\
         \"sagas_per_s\":{:.1},\"p50_ms\":{:.2},\"p95_ms\":{:.2},\"p99_ms\":{:.2},\
         \"cpu_us_per_saga\":{:.0},\"saga_rows\":{rows},\"event_rows\":{events}}}",
        sagas as f64 / wall,
        rank(0.5),
        rank(0.95),
        rank(0.99),
        cpu * 1e6 / sagas as f64,
    );
}
