//! A hundred thousand messages under kills, and the same for any seed and count by hand:
//! `CRASHLAB_SEED=7 CRASHLAB_MESSAGES=1000000`.

use ratebox_crashlab::one_effect::{Plan, run};

fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_messages_have_one_effect_each_whatever_is_killed() {
    let mut plan = Plan::new(given("CRASHLAB_SEED").unwrap_or_else(|| fastrand::u64(..)));
    plan.messages = given("CRASHLAB_MESSAGES").unwrap_or(plan.messages);
    println!("CRASHLAB_SEED={}", plan.seed);
    let report = run(&plan).await.unwrap();
    println!("{report}");
    assert!(report.violations.is_empty(), "{report}");
    // A run without faults and duplicates shows nothing.
    assert!(report.faults.workers_killed >= 5, "{report}");
    assert!(
        report.faults.redis_killed + report.faults.redis_restarted >= 1,
        "{report}"
    );
    assert!(report.suppressed >= report.injected, "{report}");
}
