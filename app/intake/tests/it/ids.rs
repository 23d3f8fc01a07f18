//! Ids that follow from other ids.

use std::collections::HashSet;

use ratebox_intake::{foreign_request_id, item_id, millis};
use uuid::{Uuid, Variant};

const REQUEST: Uuid = Uuid::from_u128(0x0194_2f3c_9a10_7abc_8def_0123_4567_89ab);

#[test]
fn item_ids_are_version_7_with_the_time_of_the_request() {
    let ids: HashSet<_> = (0..1000).map(|number| item_id(REQUEST, number)).collect();
    assert_eq!(ids.len(), 1000);
    for id in ids {
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(id.get_variant(), Variant::RFC4122);
        assert_eq!(millis(id), millis(REQUEST));
    }
}

#[test]
fn ids_never_change() {
    assert_eq!(
        item_id(REQUEST, 0).to_string(),
        "01942f3c-9a10-75e7-ab3e-781d475eb42e"
    );
    assert_eq!(
        item_id(REQUEST, 999).to_string(),
        "01942f3c-9a10-759c-b64c-affa2a39c02d"
    );
    assert_eq!(
        foreign_request_id(1_736_000_000_000, "raw_items", "1736000000000-0").to_string(),
        "019431a9-d000-7096-b9ad-9b42afbd2b84"
    );
}

#[test]
fn foreign_ids_differ_by_stream_and_entry() {
    let id = foreign_request_id(1_736_000_000_000, "raw_items", "1736000000000-0");
    assert_eq!(id.get_version_num(), 7);
    assert_eq!(millis(id), 1_736_000_000_000);
    assert_ne!(
        id,
        foreign_request_id(1_736_000_000_000, "raw_items", "1736000000000-1")
    );
    assert_ne!(
        id,
        foreign_request_id(1_736_000_000_000, "raw_item", "s1736000000000-0")
    );
}
