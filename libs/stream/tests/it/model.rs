//! The protocol of claim, lease, retry, dead letter and trim as a model of which every state is
//! visited; broken variants of it; and real traces that must be ways through it.

mod actor;
mod calls;
mod deeds;
mod doctored;
mod enabled;
mod explore;
mod faults;
mod hasher;
mod law;
mod protocol;
mod replay;
mod rig;
mod scenes;
mod trace;
mod variant;
mod world;

use std::time::Duration;

use explore::{Explored, explore};
use law::Law;
use protocol::{Model, Scene};
use ratebox_kit::Stopwatch;
use ratebox_testkit::RedisServer;
use replay::replay;
use rig::Rig;
use trace::Event;
use variant::{CASES, Variant};

fn explored(scene: Scene, variant: Option<Variant>) -> Explored {
    let watch = Stopwatch::start();
    let name = scene.name;
    let explored = explore(&Model { scene, variant });
    println!(
        "{name}: {} states, {} steps in {:.1} s",
        explored.states,
        explored.steps,
        watch.elapsed().as_secs_f64()
    );
    explored
}

fn holds(scene: Scene) {
    if let Some(broken) = explored(scene, None).broken {
        let steps: Vec<String> = broken.way.iter().map(|it| format!("  {it:?}")).collect();
        panic!("{}\nbroken by\n{}", broken.law.sentence(), steps.join("\n"));
    }
}

#[test]
fn the_laws_hold_while_members_die_and_pause() {
    holds(scenes::leases());
}

#[test]
fn the_laws_hold_while_handlers_fail() {
    holds(scenes::failures());
}

#[test]
fn the_laws_hold_beside_a_message_that_kills() {
    holds(scenes::poison());
}

#[test]
fn the_laws_hold_while_the_stream_is_trimmed() {
    holds(scenes::trims());
}

#[test]
fn the_laws_hold_while_members_stop_and_hand_back() {
    holds(scenes::hand_backs());
}

#[test]
fn the_laws_hold_while_answers_get_lost() {
    holds(scenes::lost_answers());
}

#[test]
fn the_laws_hold_while_the_log_loses_data() {
    holds(scenes::lost_data());
}

#[test]
fn the_laws_hold_while_the_news_of_a_loss_gets_lost() {
    holds(scenes::lost_news());
}

#[test]
fn the_laws_hold_while_handlers_put_off_and_run_beyond_their_time() {
    holds(scenes::snoozes());
}

#[test]
fn the_laws_hold_while_an_operator_cancels() {
    holds(scenes::cancels());
}

#[test]
fn the_laws_hold_for_one_message_under_every_fault() {
    holds(scenes::one_message());
}

#[test]
fn every_broken_variant_breaks_its_law_and_every_law_is_broken_by_one() {
    for case in CASES {
        let variant = case.variant;
        let broken = explored((case.scene)(), Some(variant)).broken;
        let broken = broken.unwrap_or_else(|| panic!("{variant:?} breaks nothing"));
        println!("{variant:?}: broken: {}", broken.law.sentence());
        for action in &broken.way {
            println!("    {action:?}");
        }
        assert_eq!(broken.law, case.law, "{variant:?}");
    }
    for law in Law::ALL {
        let breaks = |case: &variant::Case| case.law == law;
        assert!(CASES.iter().any(breaks), "{law:?} is never broken");
    }
}

fn way(events: &[Event]) -> String {
    let lines = events.iter().map(|it| format!("  {it:?}\n"));
    lines.collect()
}

/// Runs real consumers with this seed; their trace must be a way through the model, to its end.
async fn accepted(seed: u64, mut rig: Rig, turns: usize) -> Rig {
    rig.run(turns).await;
    let (model, events) = (rig::model(), rig.trace.events());
    if rig.is_blurred {
        return rig;
    }
    let worlds = replay(&model, &events).unwrap_or_else(|refused| {
        let before = way(&events[..refused.at]);
        panic!("seed {seed}: {refused} after\n{before}");
    });
    // The model ends as the consumers did: with the same effects and letters.
    let ends = worlds.iter().any(|world| {
        let became = world.messages.iter().map(|it| (it.effects, it.letters));
        law::is_over(&model, world) && became.eq(rig.became())
    });
    let became = rig.became();
    assert!(
        ends,
        "seed {seed}: {became:?}, but {worlds:#?} after\n{}",
        way(&events)
    );
    rig
}

/// Runs many at once: a settlement whose answer got lost is tried again after a while.
async fn all_accepted(seeds: std::ops::RangeInclusive<u64>) {
    let traced = |seed| async move {
        let rig = accepted(seed, Rig::in_memory(seed).await, 60).await;
        rig.trace.events().len()
    };
    let watch = Stopwatch::start();
    let events: Vec<usize> = futures_util::future::join_all(seeds.map(traced)).await;
    println!(
        "{} traces, {} events in {:.1} s",
        events.len(),
        events.iter().sum::<usize>(),
        watch.elapsed().as_secs_f64()
    );
}

#[tokio::test]
async fn traces_of_real_consumers_in_memory_are_ways_through_the_model() {
    all_accepted(1..=200).await;
}

/// Many more; by hand.
#[tokio::test]
#[ignore = "takes a minute"]
async fn many_traces_of_real_consumers_are_ways_through_the_model() {
    all_accepted(10_000..=40_000).await;
}

#[tokio::test]
async fn a_doctored_trace_is_refused() {
    let model = rig::model();
    let traced = |seed| async move { accepted(seed, Rig::in_memory(seed).await, 60).await };
    let rigs = futures_util::future::join_all((1..=200).map(traced)).await;
    for (lie, doctor) in doctored::DOCTORS {
        let traces = rigs.iter().map(|rig| rig.trace.events());
        let doctored: Vec<_> = traces.filter_map(|events| doctor(&events)).collect();
        assert!(!doctored.is_empty(), "no trace for {lie}");
        for events in doctored {
            let refused = replay(&model, &events).is_err();
            assert!(refused, "accepted: {lie}\n{}", way(&events));
        }
    }
}

#[tokio::test]
async fn traces_of_real_consumers_on_sqlite_are_ways_through_the_model() {
    let traced = |seed| async move {
        let bed = crate::sqlite::bed().await;
        accepted(seed, Rig::on(bed, Duration::from_secs(6), seed).await, 40).await
    };
    futures_util::future::join_all((1..=10).map(traced)).await;
}

/// The clock is the server's, and a tick is really waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_of_real_consumers_on_redis_are_ways_through_the_model() {
    let traced = |seed| async move {
        let bed = crate::redis::on(RedisServer::shared().unwrap().url());
        let tick = Duration::from_millis(600);
        accepted(seed, Rig::on(bed, tick, seed).await, 40).await
    };
    let rigs = futures_util::future::join_all((1..=12).map(traced)).await;
    // On a machine that stood still in between, what is left says enough.
    let clear = rigs.iter().filter(|rig| !rig.is_blurred);
    println!("{} of {} traces are clear", clear.count(), rigs.len());
}
