//! Traces that lie: each hides or invents one thing, and the model must refuse it.

use super::protocol::{Call, Deed};
use super::trace::Event;

/// Changes a trace where it can.
pub(crate) type Doctor = fn(&[Event]) -> Option<Vec<Event>>;

pub(crate) const DOCTORS: [(&str, Doctor); 9] = [
    ("an acknowledgement without its commit", without_commit),
    ("a burial without its letter", without_letter),
    ("a claim while no time passed", without_time),
    ("an acknowledgement by the other member", by_the_other),
    ("one delivery more than there was", one_delivery_more),
    ("a retry that is promoted twice", promoted_twice),
    ("an entry that is read twice", read_twice),
    ("a heart that does not hear what it lost", deaf),
    ("a trim of one entry more", trimmed_more),
];

fn without(events: &[Event], at: usize) -> Vec<Event> {
    let mut events = events.to_vec();
    events.remove(at);
    events
}

fn doubled(events: &[Event], at: usize) -> Vec<Event> {
    let mut events = events.to_vec();
    events.insert(at, events[at].clone());
    events
}

fn with(events: &[Event], at: usize, event: Event) -> Vec<Event> {
    let mut events = events.to_vec();
    events[at] = event;
    events
}

/// Of an entry that vanished the acknowledgement says that its loss was told.
fn was_told(events: &[Event], id: ratebox_stream::EntryId) -> bool {
    events.iter().any(|event| match event {
        Event::Claimed { vanished, .. } | Event::Owned { vanished, .. } => vanished.contains(&id),
        _ => false,
    })
}

/// The first of these settlements, by whom, and of what.
fn settled(events: &[Event], wanted: Call) -> Option<(usize, u8, ratebox_stream::EntryId)> {
    events.iter().enumerate().find_map(|(at, event)| {
        let Event::Settled { by, call, id, .. } = event else {
            return None;
        };
        (*call == wanted && !was_told(events, *id)).then_some((at, *by, *id))
    })
}

fn without_commit(events: &[Event]) -> Option<Vec<Event>> {
    let (at, by, id) = settled(events, Call::Ack)?;
    let deed = Deed::Commit;
    let commit = Event::Handled { by, deed, id };
    let found = events[..at].iter().rposition(|it| *it == commit)?;
    Some(without(events, found))
}

fn without_letter(events: &[Event]) -> Option<Vec<Event>> {
    let (at, by, _) = settled(events, Call::Bury)?;
    let kept = |it: &Event| matches!(it, Event::Kept { by: keeper, .. } if *keeper == by);
    let found = events[..at].iter().rposition(kept)?;
    Some(without(events, found))
}

/// Only where nothing was handed back: that may be claimed at once.
fn without_time(events: &[Event]) -> Option<Vec<Event>> {
    let claims = |it: &Event| matches!(it, Event::Claimed { entries, .. } if !entries.is_empty());
    let at = events.iter().position(claims)?;
    let mut events = events[..=at].to_vec();
    if events.iter().any(released) {
        return None;
    }
    events.retain(|it| *it != Event::Passed);
    Some(events)
}

fn released(event: &Event) -> bool {
    let Event::Settled { call, .. } = event else {
        return false;
    };
    *call == Call::Release
}

fn by_the_other(events: &[Event]) -> Option<Vec<Event>> {
    let (at, by, id) = settled(events, Call::Ack)?;
    let lie = Event::Settled {
        by: 1 - by,
        call: Call::Ack,
        id,
        answered: true,
    };
    Some(with(events, at, lie))
}

fn one_delivery_more(events: &[Event]) -> Option<Vec<Event>> {
    let offered = |it: &Event| matches!(it, Event::Offered { .. });
    let at = events.iter().position(offered)?;
    let mut lie = events[at].clone();
    if let Event::Offered { deliveries, .. } = &mut lie {
        *deliveries += 1;
    }
    Some(with(events, at, lie))
}

fn promoted_twice(events: &[Event]) -> Option<Vec<Event>> {
    let only = |it: &Event| matches!(it, Event::Promoted(ids) if ids.len() == 1);
    let at = events.iter().position(only)?;
    Some(doubled(events, at))
}

fn read_twice(events: &[Event]) -> Option<Vec<Event>> {
    let read = |it: &Event| matches!(it, Event::Read { ids, .. } if !ids.is_empty());
    Some(doubled(events, events.iter().position(read)?))
}

fn deaf(events: &[Event]) -> Option<Vec<Event>> {
    let hears = |it: &Event| matches!(it, Event::Beat { lost, .. } if !lost.is_empty());
    let at = events.iter().position(hears)?;
    let mut lie = events[at].clone();
    if let Event::Beat { lost, .. } = &mut lie {
        lost.clear();
    }
    Some(with(events, at, lie))
}

fn trimmed_more(events: &[Event]) -> Option<Vec<Event>> {
    let trimmed = |it: &Event| matches!(it, Event::Trimmed { .. });
    let at = events.iter().position(trimmed)?;
    let mut lie = events[at].clone();
    if let Event::Trimmed { removed } = &mut lie {
        *removed += 1;
    }
    Some(with(events, at, lie))
}
