//! The small worlds that are explored. One world with everything in it would have too many states;
//! each of these holds what belongs together.

use super::protocol::Scene;
use super::world::{Faults, Kind};

fn scene(name: &'static str, kinds: &[Kind], faults: Faults) -> Scene {
    Scene {
        name,
        kinds: kinds.to_vec(),
        members: 2,
        faults,
        lease: 2,
        retry_wait: 1,
        retry_max: 1,
        deliveries_max: 2,
        count_max: 3,
        trims: false,
        hand_backs: false,
    }
}

/// Members that die, pause and come back.
pub(crate) fn leases() -> Scene {
    let faults = Faults {
        crashes: 1,
        stalls: 1,
        ..Faults::default()
    };
    scene("leases", &[Kind::Good, Kind::Good], faults)
}

/// Handlers that fail always, and for good, while the stream is trimmed.
pub(crate) fn failures() -> Scene {
    let faults = Faults {
        crashes: 1,
        ..Faults::default()
    };
    let mut scene = scene("failures", &[Kind::Failing, Kind::Malformed], faults);
    scene.trims = true;
    scene
}

/// A message that kills whoever works on it, beside innocent ones.
pub(crate) fn poison() -> Scene {
    scene(
        "poison",
        &[Kind::Killer, Kind::Good, Kind::Good],
        Faults::default(),
    )
}

/// A trim at any time, beside retries and the dead.
pub(crate) fn trims() -> Scene {
    let faults = Faults {
        crashes: 1,
        failures: 1,
        ..Faults::default()
    };
    let mut scene = scene("trims", &[Kind::Good, Kind::Failing], faults);
    scene.trims = true;
    scene
}

/// Answers that get lost after the log did what it was asked.
pub(crate) fn lost_answers() -> Scene {
    let faults = Faults {
        crashes: 1,
        lost_answers: 2,
        ..Faults::default()
    };
    let mut scene = scene("lost answers", &[Kind::Good, Kind::Failing], faults);
    scene.trims = true;
    scene
}

/// A log that loses entries, and whole streams with their groups.
pub(crate) fn lost_data() -> Scene {
    let faults = Faults {
        crashes: 1,
        lost_entries: 1,
        lost_streams: 1,
        ..Faults::default()
    };
    scene("lost data", &[Kind::Good, Kind::Failing], faults)
}

/// A log that loses an entry, and then the answer that says so.
pub(crate) fn lost_news() -> Scene {
    let faults = Faults {
        crashes: 1,
        lost_answers: 1,
        lost_entries: 1,
        ..Faults::default()
    };
    scene("lost news", &[Kind::Good], faults)
}

/// Handlers that put messages off, lose them and run beyond their time, while members die.
pub(crate) fn snoozes() -> Scene {
    let faults = Faults {
        crashes: 1,
        failures: 2,
        ..Faults::default()
    };
    scene("snoozes", &[Kind::Good], faults)
}

/// An operator's orders to give a message up, at any time.
pub(crate) fn cancels() -> Scene {
    let faults = Faults {
        crashes: 1,
        lost_answers: 1,
        failures: 1,
        cancels: 1,
        ..Faults::default()
    };
    scene("cancels", &[Kind::Good], faults)
}

/// One message, and everything that can happen to its log and its members.
pub(crate) fn one_message() -> Scene {
    let faults = Faults {
        crashes: 1,
        stalls: 1,
        lost_answers: 0,
        lost_entries: 1,
        lost_streams: 1,
        failures: 1,
        cancels: 0,
    };
    scene("one message", &[Kind::Good], faults)
}

/// Members that stop, and others that pause, die and miss answers meanwhile.
pub(crate) fn hand_backs() -> Scene {
    let faults = Faults {
        crashes: 1,
        stalls: 1,
        lost_answers: 1,
        ..Faults::default()
    };
    let mut scene = scene("hand backs", &[Kind::Good], faults);
    scene.hand_backs = true;
    scene
}
