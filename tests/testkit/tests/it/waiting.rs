//! Waiting ends at once when the condition holds, and tells what was missing when it does not.

use std::cell::Cell;
use std::time::Duration;

use ratebox_testkit::{wait_for, wait_until};

#[tokio::test]
async fn waiting_ends_when_the_condition_holds() {
    let looks = Cell::new(0);
    let found = wait_for(Duration::from_secs(5), "three looks", || async {
        looks.set(looks.get() + 1);
        (looks.get() == 3).then(|| looks.get())
    })
    .await;
    assert_eq!(found, 3);
}

#[tokio::test]
#[should_panic(expected = "in vain until pigs fly")]
async fn waiting_in_vain_says_for_what() {
    wait_until(Duration::from_millis(20), "pigs fly", || async { false }).await;
}

#[tokio::test]
#[should_panic(expected = "in vain until the look returns")]
async fn a_look_that_hangs_does_not_outlive_the_deadline() {
    wait_until(Duration::from_millis(20), "the look returns", || {
        std::future::pending()
    })
    .await;
}
