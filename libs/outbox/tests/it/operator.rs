//! What an operator sees and does.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Backoff, Tasks};
use ratebox_outbox::{Event, Outbox, OutboxAdmin, Relay, RelaySettings, Settings};

use crate::broker::{FakeBroker, Mood};
use crate::databases::both;
use crate::relay::add;

#[tokio::test]
async fn a_dead_event_is_deleted_and_its_neighbours_stay() {
    for fresh in both().await {
        let admin = OutboxAdmin::new(fresh.db.clone());
        let events = ["bad 1", "bad 2"].map(|body| Event::new("t", body).ordered_by(body));
        add(&fresh.db, events.to_vec()).await;
        let settings = RelaySettings {
            attempts_max: 1,
            ..RelaySettings::default()
        };
        let broker = FakeBroker::new(Mood::Picky);
        let mut relay = Relay::new(fresh.db.clone(), broker, "r1", settings, Arc::default());
        relay.step().await.unwrap();
        let [first, second] = events.map(|it| it.id);
        assert_eq!(admin.purge(&[first]).await.unwrap(), 1, "{}", fresh.name);
        assert_eq!(admin.purge(&[first]).await.unwrap(), 0, "once");
        let dead = admin.dead(10).await.unwrap();
        assert_eq!((dead.len(), dead[0].event.id), (1, second));
        assert_eq!(admin.status().await.unwrap().pending, 0, "none came back");
    }
}

#[tokio::test]
async fn dead_events_are_shown_and_tried_again_with_the_same_ids() {
    for fresh in both().await {
        let admin = OutboxAdmin::new(fresh.db.clone());
        let event = |body: &str| {
            Event::new("t", body.to_owned())
                .aggregate("order", 1)
                .of_type("x")
        };
        let (bad, worse) = (event("bad"), event("bad too"));
        add(&fresh.db, vec![bad.clone(), worse.clone()]).await;
        let broker = FakeBroker::new(Mood::Picky);
        let settings = RelaySettings {
            attempts_max: 1,
            backoff: Backoff {
                first: Duration::from_millis(1),
                max: Duration::from_millis(1),
            },
            ..RelaySettings::default()
        };
        let mut relay = Relay::new(
            fresh.db.clone(),
            broker.clone(),
            "r1",
            settings,
            Arc::default(),
        );
        relay.step().await.unwrap();
        relay.step().await.unwrap();
        let status = admin.status().await.unwrap();
        assert_eq!(
            (status.pending, status.dead_letter),
            (0, 2),
            "{}",
            fresh.name
        );
        assert_eq!(status.relays, 1, "{}", fresh.name);
        let dead = admin.dead(10).await.unwrap();
        assert_eq!(
            dead[0].event, bad,
            "{}: with everything that was told",
            fresh.name
        );
        assert_eq!(dead[0].last_error.as_deref(), Some("on purpose"));

        broker.turn(Mood::Up);
        assert_eq!(
            admin.retry(Some(&[worse.id]), 10).await.unwrap(),
            [worse.id]
        );
        assert_eq!(admin.retry(None, 10).await.unwrap(), [bad.id]);
        assert!(admin.retry(None, 10).await.unwrap().is_empty());
        let status = admin.status().await.unwrap();
        assert_eq!(
            (status.pending, status.dead_letter),
            (2, 0),
            "{}",
            fresh.name
        );
        while admin.status().await.unwrap().pending > 0 {
            relay.step().await.unwrap();
        }
        let expected = [bad.id.to_string(), worse.id.to_string()];
        assert_eq!(broker.ids(), expected, "{}: in their order", fresh.name);

        let outbox = Outbox::new(fresh.db.clone(), broker, Settings::default(), &Tasks::new());
        let (insert, _left) = outbox.stage(vec![Event::new("t", "x")]).unwrap();
        fresh.db.run(vec![insert]).await.unwrap();
        let status = admin.status().await.unwrap();
        assert_eq!((status.pending, status.claimed), (0, 1), "{}", fresh.name);
    }
}
