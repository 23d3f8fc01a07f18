//! The snippets of `docs/Bus-Delivery.md`, run on a log in memory.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Backoff, Clock, Message};
use ratebox_stream::{
    Bounds, Control, Dispatch, Dispatcher, Error, GroupName, Lane, Lanes, MemoryLog, Policy,
    Producer, Progress, RetryRule, Scaling, Sent, StreamName,
};

const HOUR: Duration = Duration::from_secs(3_600);

fn main() -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system gives an event queue");
    runtime.block_on(async {
        let clock = Clock::system();
        let log: Arc<dyn Dispatcher> = Arc::new(MemoryLog::new(clock.clone()));
        let lanes = Lanes::of(&StreamName::new("orders"));
        produce(Arc::clone(&log), lanes.clone(), &clock).await?;
        operate(log, lanes).await?;
        policy().check()
    })
}

async fn produce(log: Arc<dyn Dispatcher>, lanes: Lanes, clock: &Clock) -> Result<(), Error> {
    let limits = Bounds {
        depth: Some(100_000),
        ..Bounds::default()
    };
    let producer = Producer::new(log, lanes).with_limits(limits);
    producer.send(Message::new("m1", "body")).await?;
    let wait = Duration::from_secs(60);
    producer
        .send_after(Message::new("m2", "body"), wait)
        .await?;
    let due = clock.now().saturating_add(HOUR).unwrap_or_default();
    producer.send_at(Message::new("m3", "body"), due).await?;
    for id in ["m4", "m5"] {
        let once = Dispatch::new(Message::new(id, "body"));
        match producer
            .send(once.on(Lane::High).once("order-17", HOUR))
            .await?
        {
            Sent::Accepted(receipt) => println!("{id} is at {:?}", receipt.place),
            Sent::Duplicate(first) => println!("{id} came after {}", first.message_id),
        }
    }
    let dispatches = ["m6", "m7"].map(|id| Dispatch::new(Message::new(id, "body")).on(Lane::Low));
    for answer in producer.send_all(dispatches.into()).await {
        println!("{:?} was taken", answer?);
    }
    println!("{} wait", producer.scheduled(0, 100).await?.len());
    producer.unschedule("m3").await?;
    Ok(())
}

async fn operate(log: Arc<dyn Dispatcher>, lanes: Lanes) -> Result<(), Error> {
    let control = Control::new(Arc::clone(&log), lanes.clone());
    control.pause(None, None).await?;
    let group = GroupName::new("judges");
    control.pause(Some(&group), Some(HOUR)).await?;
    println!("{} pauses stand", control.orders().await?.pauses().len());
    control.resume(None).await?;
    println!("m2 was {:?}", control.cancel("m2").await?);
    Progress::new(log, lanes).report("m4", "2 of 3").await?;
    println!("m4 is at {:?}", control.progress("m4").await?);
    Ok(())
}

fn policy() -> Policy {
    let slow = Backoff {
        first: Duration::from_secs(10),
        max: HOUR,
    };
    Policy {
        retry_rules: vec![
            RetryRule::new("http.503", 20, slow),
            RetryRule::new("http.*", 0, slow),
        ],
        handler_timeout: Some(Duration::from_secs(30)),
        batch_time: Some(Duration::from_secs(1)),
        scaling: Some(Scaling { min: 1, max: 8 }),
        ..Policy::default()
    }
}
