//! A checker that finds nothing may be blind: each promise is broken once, and must be missed.

use ratebox_crashlab::checker::{Evidence, Sends, Told, Violation};

/// Two messages, of which one came twice.
fn good() -> Evidence {
    let mut evidence = Evidence {
        told_processed: 2,
        told_suppressed: 1,
        ..Evidence::default()
    };
    for (id, entries) in [("a", 1), ("b", 2)] {
        let sends = Sends {
            confirmed: entries,
            unknown: 0,
        };
        evidence.sent.insert(id.to_owned(), sends);
        evidence.effects.insert(id.to_owned(), 1);
        evidence.tries.insert(id.to_owned(), entries);
        evidence.answers.insert(id.to_owned(), 1);
    }
    evidence
}

#[track_caller]
fn check(spoil: impl FnOnce(&mut Evidence), expected: &[Violation]) {
    let mut evidence = good();
    spoil(&mut evidence);
    assert_eq!(evidence.violations(), expected);
}

fn b() -> String {
    "b".to_owned()
}

#[test]
fn a_run_in_which_all_went_well_breaks_nothing() {
    check(|_| {}, &[]);
    assert_eq!(good().suppressed(), 1);
}

#[test]
fn an_effect_that_is_missing_doubled_or_of_nobody_is_found() {
    check(
        |it| {
            it.effects.remove("b");
        },
        &[Violation::Lost { id: b() }],
    );
    let doubled = Violation::Doubled { id: b(), times: 2 };
    check(
        |it| {
            it.effects.insert(b(), 2);
        },
        &[doubled],
    );
    let stranger = Violation::Stranger { id: "c".to_owned() };
    check(
        |it| {
            it.effects.insert("c".to_owned(), 1);
        },
        &[stranger],
    );
    check(
        |it| {
            it.answers.remove("b");
        },
        &[Violation::Unanswered { id: b() }],
    );
}

#[test]
fn counters_that_disagree_are_found() {
    let processed = Violation::Processed { told: 3, really: 2 };
    check(|it| it.told_processed = 3, &[processed]);
    let suppressed = Violation::Suppressed { told: 0, really: 1 };
    check(|it| it.told_suppressed = 0, &[suppressed]);
    let told = |by_metric, may_lack| Told {
        worker: "w1".to_owned(),
        by_metric,
        by_figure: 5,
        may_lack,
    };
    check(|it| it.metrics = vec![told(5, false), told(4, true)], &[]);
    check(
        |it| it.metrics = vec![told(4, false)],
        &[Violation::Metric(told(4, false))],
    );
    check(
        |it| it.metrics = vec![told(6, true)],
        &[Violation::Metric(told(6, true))],
    );
}

#[test]
fn entries_that_nobody_met_letters_and_the_fallen_are_found() {
    let skipped = Violation::Skipped {
        id: b(),
        entries: 2,
        tries: 1,
    };
    let spoil = |it: &mut Evidence| {
        it.tries.insert(b(), 1);
        it.told_suppressed = 0;
    };
    check(spoil, &[skipped]);
    check(|it| it.dead_letters = 1, &[Violation::DeadLetters(1)]);
    check(|it| it.pending = 4, &[Violation::Pending(4)]);
    let fell = Violation::Fell("w1 (None): panicked".to_owned());
    check(
        |it| it.fallen.push("w1 (None): panicked".to_owned()),
        &[fell],
    );
}
