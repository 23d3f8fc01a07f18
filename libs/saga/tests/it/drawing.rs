//! Drawings and dry runs.

use std::time::Duration;

use ratebox_saga::{Ctx, Saga, StepError, StepResult};

use crate::world::World;

async fn one<A>(_: Ctx, _: A) -> StepResult<u32> {
    Ok(1)
}

async fn back<A>(_: Ctx, _: A, _: Option<u32>) -> StepResult {
    Ok(())
}

fn order() -> Saga<u32> {
    let b = Saga::<u32>::builder("order");
    let reserve = b.step("reserve", one).undo(back);
    let check = b.step("check", one).read_only();
    let charge = b.after((reserve, check)).step("charge", one).pivot();
    b.after(charge).step("ship", one).after_only(reserve);
    b.build().unwrap()
}

#[test]
fn a_definition_draws_its_steps_undos_and_pivot() {
    let drawn = order().mermaid();
    let lines: Vec<&str> = drawn.lines().map(str::trim).collect();
    for line in [
        "flowchart TB",
        "s0[\"reserve\"]:::reversible",
        "s2{{\"charge\"}}:::pivot",
        "s3[\"ship\"]:::committed",
        "START([start]) --> s0",
        "s0 --> s2",
        "s0 -.-> s3",
        "s3 --> SUCCESS([completed])",
        "comp_0[\"undo reserve\"]:::compensation",
    ] {
        assert!(lines.contains(&line), "no `{line}` in\n{drawn}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_draws_its_states_and_durations() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let (b, it) = (Saga::<u32>::builder("run"), &world.ledger);
    let a = b
        .step("a", it.step(Duration::from_millis(1_500)))
        .undo(it.undo());
    b.after(a)
        .step("z", it.failing(StepError::rejected("no")))
        .undo(it.undo());
    let saga = b.build().unwrap();
    let handle = engine.start(&saga, &1).await.unwrap();
    handle.settled().await.unwrap();
    let drawn = engine.view(handle.id(), None).await.unwrap().mermaid();
    assert!(
        drawn.contains("s0[\"a<br/>1.5 s<br/>undone\"]:::undone"),
        "{drawn}"
    );
    assert!(
        drawn.contains("s1 --> ROLLED_BACK([rolled back])"),
        "{drawn}"
    );
}

#[test]
fn a_dry_run_tells_critical_path_time_and_width() {
    let takes = |step: &str| {
        let seconds = match step {
            "reserve" => 3,
            "check" => 5,
            _ => 1,
        };
        Some(Duration::from_secs(seconds))
    };
    let run = order().dry_run(takes);
    assert_eq!(run.critical_path, ["check", "charge", "ship"]);
    assert_eq!(
        (run.takes, run.work),
        (Duration::from_secs(7), Duration::from_secs(10))
    );
    assert_eq!(run.width, 2);
    let first: &[String] = &run.layers[0];
    assert_eq!((run.layers.len(), first.len()), (3, 2));
}
