//! The protocol of claim, lease, retry, dead letter and trim as a model of which every state is
//! visited; broken variants of it; and real traces that must be ways through it.

mod enabled;
mod explore;
mod law;
mod protocol;
mod scenes;
mod variant;
mod world;

use explore::{Explored, explore};
use law::Law;
use protocol::{Model, Scene};
use ratebox_kit::Stopwatch;
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
