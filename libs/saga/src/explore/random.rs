//! Random sagas with random faults: one number makes one scene.

use std::collections::HashMap;
use std::time::Duration;

use super::scene::{Played, Scene, play};
use super::script::Break;
use super::{Explore, Report};
use crate::definition::step::Step;
use crate::{Builder, Ctx, OnFailure, OnStuck, Result, Retry, Saga, StepError, StepResult};

/// Most steps of a random saga.
const STEPS_MAX: usize = 9;

/// Plays `count` random scenes from `seed` on: scene number n is that of seed + n, whatever came
/// before it. Call it where tokio's time is paused.
pub async fn random(seed: u64, count: u64) -> Report {
    let mut report = Report::default();
    for number in 0..count {
        let seed = seed.wrapping_add(number);
        let mut played = one(seed).await;
        played.title = format!("seed {seed}: {}", played.title);
        report.add(played);
    }
    report
}

async fn one(seed: u64) -> Played {
    let mut rng = fastrand::Rng::with_seed(seed);
    let saga = match define(&mut rng) {
        Ok(saga) => saga,
        Err(error) => {
            return Played {
                title: "its definition".to_owned(),
                status: crate::Status::Pending,
                violations: vec![error.to_string()],
            };
        }
    };
    let all = Explore::new(&saga, &1).breaks();
    let breaks: Vec<Break> = (0..rng.usize(0..4))
        .filter_map(|_| rng.choice(&all).cloned())
        .collect();
    let input = b"1".as_slice().into();
    let plan = saga.plan();
    let signals = HashMap::new();
    let scene = Scene {
        plan,
        input,
        signals,
        breaks,
        seed,
    };
    play(scene, None).await
}

/// A handle whose argument's type is forgotten.
type Any<'b> = Step<'b, (), u32>;

/// Whether a step fails by itself; decided when the saga is made.
#[derive(Clone, Copy)]
struct Manner {
    wait_ms: u64,
    fails: bool,
}

async fn act<A>(ctx: Ctx, manner: Manner, _: A) -> StepResult<u32> {
    if manner.wait_ms > 0 {
        tokio::time::sleep(Duration::from_millis(manner.wait_ms)).await;
    }
    if manner.fails {
        return Err(StepError::rejected("it is like that"));
    }
    Ok(ctx.attempt())
}

async fn undo<A>(_: Ctx, _: A, _: Option<u32>) -> StepResult {
    Ok(())
}

fn define(rng: &mut fastrand::Rng) -> Result<Saga<u32>> {
    let strategies = [
        OnFailure::FailFast,
        OnFailure::WaitAll,
        OnFailure::FailFastWithGrace(Duration::from_millis(rng.u64(0..3_000))),
    ];
    let on_stuck = if rng.bool() {
        OnStuck::Strict
    } else {
        OnStuck::BestEffort
    };
    let b = Saga::<u32>::builder("random")
        .on_failure(*rng.choice(&strategies).unwrap_or(&OnFailure::WaitAll))
        .on_stuck(on_stuck);
    let before = rng.usize(1..=STEPS_MAX);
    let after = rng.bool().then(|| rng.usize(0..4));
    let mut steps: Vec<Any<'_>> = Vec::new();
    for number in 0..before {
        let step = add(&b, rng, &steps, number, Zone::Before);
        steps.push(step);
    }
    if let Some(after) = after {
        // After everything: nothing may run beside a pivot.
        let pivot = b.step("pivot", |ctx, a| {
            act(
                ctx,
                Manner {
                    wait_ms: 0,
                    fails: false,
                },
                a,
            )
        });
        let mut pivot = pivot.pivot().retry(retry(rng));
        for step in &steps {
            pivot = pivot.after_only(*step);
        }
        let mut late = vec![Any::new(pivot.draft, pivot.index, pivot.read)];
        for number in 0..after {
            let step = add(&b, rng, &late, before + number, Zone::After);
            late.push(step);
        }
    }
    b.build()
}

/// On which side of the pivot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Zone {
    Before,
    After,
}

fn retry(rng: &mut fastrand::Rng) -> Retry {
    Retry::times(rng.u32(0..3)).between(Duration::from_millis(50), Duration::from_secs(5))
}

/// Adds a step that reads some of the earlier ones and comes after some others.
fn add<'b>(
    b: &'b Builder<u32>,
    rng: &mut fastrand::Rng,
    earlier: &[Any<'b>],
    number: usize,
    zone: Zone,
) -> Any<'b> {
    let name = format!("s{number}");
    let manner = Manner {
        wait_ms: if rng.bool() { 0 } else { rng.u64(0..5_000) },
        fails: zone == Zone::Before && rng.u8(..) < 8,
    };
    let pick = |rng: &mut fastrand::Rng| rng.choice(earlier).copied();
    if let (Some(one), 0) = (pick(rng), rng.u8(0..8)) {
        let time = Duration::from_secs(rng.u64(0..100));
        let sleep = b.after(one).sleep(&name, time);
        let read = crate::definition::values::read_unit;
        return Any::new(sleep.draft, sleep.index, read);
    }
    match (pick(rng), pick(rng), rng.u8(0..3)) {
        (Some(one), _, 0) => {
            let step = b.after(one).step(&name, move |ctx, a| act(ctx, manner, a));
            finish(step, rng, zone, &pick)
        }
        (Some(one), Some(two), _) => {
            let both = b.after((one, two));
            let step = both.step(&name, move |ctx, a| act(ctx, manner, a));
            finish(step, rng, zone, &pick)
        }
        (None, ..) | (Some(_), None, _) => {
            let step = b.step(&name, move |ctx, a| act(ctx, manner, a));
            finish(step, rng, zone, &pick)
        }
    }
}

fn finish<'b, A: Send + 'static>(
    mut step: Step<'b, A, u32>,
    rng: &mut fastrand::Rng,
    zone: Zone,
    pick: &dyn Fn(&mut fastrand::Rng) -> Option<Any<'b>>,
) -> Any<'b> {
    let retries = retry(rng);
    step = step
        .timeout(Duration::from_secs(20))
        .undo_timeout(Duration::from_secs(20))
        .undo_retry(retry(rng));
    step = match zone {
        Zone::Before if rng.u8(0..4) == 0 => step.read_only().retry(retries),
        Zone::Before => step.undo(undo).retry(retries),
        Zone::After => match rng.u8(0..3) {
            0 => step.or_value(&0),
            1 => step.or_else(|_, _| async { Ok(0) }),
            _ => step.retry(Retry::times(1 + retries.max)),
        },
    };
    if rng.bool()
        && let Some(other) = pick(rng)
    {
        step = step.after_only(other);
    }
    Any::new(step.draft, step.index, step.read)
}
