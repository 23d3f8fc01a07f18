//! Requests: kept, shown to their owner only, found again while unfinished.

use std::time::Duration;

use ratebox_kit::id;
use ratebox_store::{NewRequest, State};

use crate::databases::{Fresh, both};

pub(crate) fn request(fresh: &Fresh, owner: &str) -> NewRequest {
    NewRequest {
        id: id::new(),
        owner: owner.to_owned(),
        source: "api".to_owned(),
        action: "validate",
        lane: "normal",
        profile: None,
        item_count: 2,
        external_ref: Some("ref".to_owned()),
        batch_id: None,
        body: "{\"v\":1}".into(),
        accepted_at: fresh.clock.now(),
    }
}

async fn keep(fresh: &Fresh, requests: &[NewRequest]) {
    let statement = fresh.store.insert_requests(requests).unwrap();
    fresh.store.db().execute(statement).await.unwrap();
}

#[tokio::test]
async fn a_request_is_queued_and_only_its_owner_sees_it() {
    for fresh in both().await {
        let request = request(&fresh, "me");
        keep(&fresh, std::slice::from_ref(&request)).await;
        let store = &fresh.store;
        let status = store.status(request.id, Some("me")).await.unwrap().unwrap();
        assert_eq!(
            (status.state, status.item_count),
            (State::Queued, 2),
            "{}",
            fresh.name
        );
        assert_eq!(status.external_ref.as_deref(), Some("ref"));
        assert_eq!(status.accepted_at, request.accepted_at);
        assert!(
            store
                .status(request.id, Some("you"))
                .await
                .unwrap()
                .is_none()
        );
        assert!(store.status(request.id, None).await.unwrap().is_some());
        assert!(store.status(id::new(), None).await.unwrap().is_none());
        store.mark_processing(vec![request.id]).await.unwrap();
        let status = store.status(request.id, None).await.unwrap().unwrap();
        assert_eq!(status.state, State::Processing);
    }
}

#[tokio::test]
async fn unfinished_requests_are_found_by_lane_and_age_and_wait_after_republication() {
    for fresh in both().await {
        let (mut high, normal) = (request(&fresh, "me"), request(&fresh, "me"));
        high.lane = "high";
        keep(&fresh, &[high.clone(), normal.clone()]).await;
        let store = &fresh.store;
        let now = fresh.clock.now();
        assert!(
            store
                .unfinished_before("normal", now, 10)
                .await
                .unwrap()
                .is_empty()
        );
        fresh.clock.advance(Duration::from_secs(60));
        let later = fresh.clock.now();
        let found = store.unfinished_before("normal", later, 10).await.unwrap();
        assert_eq!(found.len(), 1, "{}", fresh.name);
        assert_eq!((found[0].id, &found[0].body), (normal.id, &normal.body));
        store.mark_republished(vec![normal.id]).await.unwrap();
        assert!(
            store
                .unfinished_before("normal", later, 10)
                .await
                .unwrap()
                .is_empty()
        );
        fresh.clock.advance(Duration::from_secs(60));
        let found = store
            .unfinished_before("normal", fresh.clock.now(), 10)
            .await
            .unwrap();
        assert_eq!(found.len(), 1, "{}", fresh.name);
    }
}

#[tokio::test]
async fn unfinished_requests_of_a_moment_when_the_clock_was_ahead_are_found() {
    for fresh in both().await {
        let store = &fresh.store;
        let forty_days = 40 * 86_400;
        fresh.clock.jump(forty_days);
        let (ahead, republished) = (request(&fresh, "me"), request(&fresh, "me"));
        keep(&fresh, std::slice::from_ref(&ahead)).await;
        fresh.clock.jump(-forty_days);
        // This one was accepted at the right time, and published again at the wrong one.
        let republished = NewRequest {
            accepted_at: fresh.clock.now(),
            ..republished
        };
        keep(&fresh, std::slice::from_ref(&republished)).await;
        fresh.clock.jump(forty_days);
        store.mark_republished(vec![republished.id]).await.unwrap();
        fresh.clock.jump(-forty_days);
        fresh.clock.advance(Duration::from_secs(60));
        let now = fresh.clock.now();
        let find = async |max| store.unfinished_before("normal", now, max).await.unwrap();
        let found: Vec<_> = find(10).await.iter().map(|it| it.id).collect();
        assert_eq!(found, [republished.id, ahead.id], "{}", fresh.name);
        assert_eq!(find(1).await.len(), 1, "{}", fresh.name);
        store.mark_republished(found).await.unwrap();
        assert!(find(10).await.is_empty(), "{}", fresh.name);
    }
}
