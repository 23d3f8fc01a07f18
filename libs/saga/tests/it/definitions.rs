//! What a definition may be, and what `build` refuses.

use std::time::Duration;

use ratebox_saga::{Builder, Ctx, Error, Flaw, Retry, Saga, StepResult};

async fn nop<A>(_: Ctx, _: A) -> StepResult<u32> {
    Ok(1)
}

async fn back<A>(_: Ctx, _: A, _: Option<u32>) -> StepResult {
    Ok(())
}

/// All that is wrong with what is declared.
fn flaws(declare: impl FnOnce(&Builder<u32>)) -> Vec<Flaw> {
    let b = Saga::<u32>::builder("sample");
    declare(&b);
    match b.build() {
        Ok(_) => Vec::new(),
        Err(Error::Definition { flaws, .. }) => flaws,
        Err(other) => panic!("{other}"),
    }
}

fn name(step: &str) -> String {
    step.to_owned()
}

#[test]
fn a_diamond_with_a_pivot_and_a_way_on_is_fine() {
    let found = flaws(|b| {
        let a = b.step("a", nop).undo(back);
        let left = b.after(a).step("left", nop).undo(back);
        let right = b.after((a, b.input())).step("right", nop).read_only();
        let pay = b.after((left, right)).step("pay", nop).pivot();
        b.after(pay).step("ship", nop).or_value(&0);
    });
    assert_eq!(found, []);
}

#[test]
fn an_empty_saga_and_bad_names_are_refused() {
    assert_eq!(flaws(|_| {}), [Flaw::Empty]);
    let found = flaws(|b| {
        let a = b.step("a b", nop).undo(back);
        b.after(a).step("ok", nop).undo(back);
    });
    assert_eq!(found, [Flaw::BadName { name: name("a b") }]);
}

#[test]
fn two_steps_of_one_name_are_refused() {
    let found = flaws(|b| {
        let a = b.step("a", nop).undo(back);
        b.after(a).step("a", nop).undo(back);
    });
    assert_eq!(found, [Flaw::DuplicateName { step: name("a") }]);
}

#[test]
fn steps_that_wait_for_each_other_are_named_in_order() {
    let found = flaws(|b| {
        let a = b.step("a", nop).undo(back);
        let c = b.after(a).step("c", nop).undo(back);
        let d = b.after(c).step("d", nop).undo(back);
        let _ = c.after_only(d);
    });
    let [Flaw::Cycle { steps }] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(steps.first(), steps.last());
    assert_eq!(steps.len(), 3, "{steps:?}");
}

#[test]
fn parts_that_have_nothing_to_do_with_each_other_are_refused() {
    let found = flaws(|b| {
        b.step("a", nop).undo(back);
        b.step("z", nop).undo(back);
    });
    let flaw = Flaw::Disconnected {
        step: name("z"),
        first: name("a"),
    };
    assert_eq!(found, [flaw]);
}

#[test]
fn a_step_of_another_saga_is_noticed() {
    let other = Saga::<u32>::builder("other");
    let foreign = other.step("foreign", nop);
    let found = flaws(|b| {
        let a = b.step("a", nop).undo(back);
        b.after((a, foreign)).step("c", nop).undo(back);
    });
    assert!(
        found.contains(&Flaw::Foreign { step: name("c") }),
        "{found:?}"
    );
}

#[test]
fn impossible_pivots_are_refused() {
    let beside = flaws(|b| {
        let a = b.step("a", nop).undo(back);
        b.after(a).step("pay", nop).pivot();
        b.after(a).step("beside", nop).undo(back);
    });
    let flaw = Flaw::BesidePivot {
        step: name("beside"),
        pivot: name("pay"),
    };
    assert_eq!(beside, [flaw]);
    let uncertain = flaws(|b| {
        let a = b.step("a", nop).undo(back);
        b.after(a).when(|a| *a > 0).step("pay", nop).pivot();
    });
    assert_eq!(uncertain, [Flaw::UncertainPivot { step: name("pay") }]);
    let no_way_on = flaws(|b| {
        let pay = b.step("pay", nop).pivot();
        b.after(pay).step("ship", nop).retry(Retry::none());
    });
    assert_eq!(no_way_on, [Flaw::NoWayOn { step: name("ship") }]);
    let undone = flaws(|b| {
        let pay = b.step("pay", nop).pivot();
        b.after(pay).step("ship", nop).undo(back);
    });
    assert_eq!(undone, [Flaw::NeverUndone { step: name("ship") }]);
}

#[test]
fn an_effect_needs_an_undo_or_a_reason() {
    let found = flaws(|b| {
        let a = b.step("a", nop);
        let c = b.after(a).step("c", nop).no_undo("a mail cannot be unsent");
        b.after(c).step("d", nop).read_only();
    });
    assert_eq!(found, [Flaw::NoUndo { step: name("a") }]);
}

#[test]
fn what_only_other_steps_can_do_is_refused() {
    let found = flaws(|b| {
        let a = b.step("a", nop).undo(back).deadline(Duration::from_secs(1));
        b.after(a).step("c", nop).undo(back).or_value(&1);
    });
    assert!(
        matches!(&found[..], [Flaw::Misuse { .. }, Flaw::Misuse { .. }]),
        "{found:?}"
    );
}

#[test]
fn the_hash_is_of_the_structure_and_not_of_times() {
    let hash = |second: &str, timeout: u64, version: u32| {
        let b = Saga::<u32>::builder("sample").version(version);
        let a = b
            .step("a", nop)
            .undo(back)
            .timeout(Duration::from_secs(timeout));
        b.after(a).step(second, nop).undo(back);
        b.build().unwrap().hash().to_owned()
    };
    assert_eq!(hash("b", 1, 1), hash("b", 2, 1));
    assert_ne!(hash("b", 1, 1), hash("c", 1, 1));
    assert_ne!(hash("b", 1, 1), hash("b", 1, 2));
}
