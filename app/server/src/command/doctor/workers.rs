//! The workers: do they take what waits on the bus, or does an order hold them up?

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Causes, Clock, Timestamp};
use ratebox_stream::{Control, EntryId, Error, GroupName, Lanes, Order, StreamInfo};

use super::super::figures::{grouped, span};
use super::finding::Finding;
use crate::config::Config;
use crate::wiring::operator::OperatorBus;

const WORKERS: &str = "workers";

/// Times of `worker.claim_idle_ms` without a sign of any worker until none is taken to live. One that
/// has something in work is seen at each heartbeat, three times and more in one of them.
const CLAIM_IDLES: u32 = 5;

/// No shorter than this, however short `worker.claim_idle_ms` is: a worker that is started anew, or
/// waits for its servers, is no standstill.
const SILENCE_MIN: Duration = Duration::from_secs(60);

/// What the lanes owe the group of the workers.
#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    /// Entries that nobody has read or acknowledged.
    count: u64,
    /// For how long the oldest of them waits.
    oldest: Duration,
    /// How long ago any worker was seen on any lane; `None` when the bus knows of none.
    seen: Option<Duration>,
}

/// The same of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owed {
    count: u64,
    /// The oldest of them is the first entry from here on.
    from: EntryId,
    seen: Option<Duration>,
}

pub(super) async fn look(config: &Config, bus: &OperatorBus) -> Vec<Finding> {
    let (group, lanes) = (GroupName::new(&config.bus.group), config.bus.lanes());
    let control = Control::new(Arc::clone(&bus.dispatcher), lanes.clone());
    let orders = control.orders().await;
    let (mut findings, is_paused): (Vec<Finding>, bool) = match &orders {
        Ok(orders) => {
            let pauses = orders.pauses().iter().map(paused).collect();
            (pauses, orders.is_paused(&group))
        }
        Err(error) => (vec![untold("whether workers are paused", error)], false),
    };
    // Workers that were told to take nothing are not seen, and what waits is no wonder.
    if !is_paused {
        findings.push(match waiting(bus, &lanes, &group).await {
            Ok(waiting) => judged(&waiting, &group, silence(config)),
            Err(error) => untold("what waits for workers", &error),
        });
    }
    findings
}

fn paused(pause: &Order) -> Finding {
    let group = pause.name.strip_prefix("pause/");
    let (whose, option) = match group {
        None => ("all groups".to_owned(), String::new()),
        Some(group) => (group.to_owned(), format!(" --group {group}")),
    };
    let left = pause.left.map_or_else(
        || "until they are resumed".to_owned(),
        |left| format!("for {} more", span(left)),
    );
    let says = format!("a pause stands: the consumers of {whose} take nothing new {left}");
    let advice = format!("`ratebox stream resume{option} --reason WHY` ends it");
    Finding::warn(WORKERS, says).advise(advice)
}

fn silence(config: &Config) -> Duration {
    let claim_idle = Duration::from_millis(config.worker.claim_idle_ms);
    claim_idle.saturating_mul(CLAIM_IDLES).max(SILENCE_MIN)
}

async fn waiting(bus: &OperatorBus, lanes: &Lanes, group: &GroupName) -> Result<Waiting, Error> {
    let now = match bus.server_time().await {
        Ok(Some(now)) => now,
        Ok(None) | Err(_) => Clock::system().now(),
    };
    let mut waiting = Waiting::default();
    for (_, stream) in lanes.iter() {
        let Some(info) = bus.admin.info(stream).await? else {
            continue;
        };
        let lane = owed(&info, group);
        // A worker is known to the lanes from which it ever got something, so any of them will do.
        waiting.seen = waiting.seen.into_iter().chain(lane.seen).min();
        if lane.count == 0 {
            continue;
        }
        waiting.count = waiting.count.saturating_add(lane.count);
        let oldest = bus.admin.peek(stream, lane.from, 1).await?;
        let oldest = oldest.first().map(|entry| age(entry.id, now));
        waiting.oldest = waiting.oldest.max(oldest.unwrap_or_default());
    }
    Ok(waiting)
}

fn owed(info: &StreamInfo, group: &GroupName) -> Owed {
    let Some(group) = info.groups.iter().find(|it| it.name == *group) else {
        // The first worker makes the group, and reads from the start.
        return Owed {
            count: info.length,
            from: EntryId::MIN,
            seen: None,
        };
    };
    // A server that cannot count them still tells whether there are any.
    let unread = group
        .lag
        .unwrap_or(u64::from(group.last_delivered < info.last));
    let unread = if info.length > 0 { unread } else { 0 };
    Owed {
        count: group.pending.saturating_add(unread),
        from: group.oldest_pending.unwrap_or(group.last_delivered.next()),
        seen: group.idle(),
    }
}

fn age(id: EntryId, now: Timestamp) -> Duration {
    let now_ms = u64::try_from(now.as_millisecond()).unwrap_or(0);
    Duration::from_millis(now_ms.saturating_sub(id.ms))
}

fn judged(it: &Waiting, group: &GroupName, silence: Duration) -> Finding {
    if it.count == 0 {
        return Finding::ok(WORKERS, "no request waits on the bus");
    }
    let (many, oldest) = (grouped(it.count), span(it.oldest));
    let waits = format!("{many} requests wait on the bus, the oldest for {oldest}");
    let nobody = match it.seen {
        Some(seen) if seen < silence => return Finding::ok(WORKERS, waits),
        Some(seen) => format!("no worker of {group} was seen for {}", span(seen)),
        None => format!("the bus knows no worker of {group}"),
    };
    let says = format!("{waits}, and {nobody}");
    let finding = if it.oldest >= silence {
        Finding::fail(WORKERS, says)
    } else if it.seen.is_none() {
        Finding::warn(WORKERS, says)
    } else {
        // A worker that had nothing to do is seen when it takes what came a moment ago.
        return Finding::ok(WORKERS, waits);
    };
    finding.advise(
        "start `ratebox worker` (`ratebox up` has one), or read in the log of those that run what \
         they wait for; `ratebox stream info` shows the groups",
    )
}

fn untold(what: &str, error: &Error) -> Finding {
    let says = format!("the bus does not tell {what}: {}", Causes(error));
    Finding::warn(WORKERS, says)
        .advise("look as the user `monitor` of docs/Bus-Users.md (bus.user, bus.password_file)")
}

#[cfg(test)]
mod tests {
    use ratebox_stream::{ConsumerInfo, ConsumerName, GroupInfo};

    use super::super::finding::Level;
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn group(pending: Option<EntryId>, lag: Option<u64>, idle: &[Duration]) -> GroupInfo {
        let member = |idle: &Duration| ConsumerInfo {
            name: ConsumerName::new("c"),
            pending: 0,
            idle: *idle,
        };
        GroupInfo {
            name: GroupName::new("g"),
            last_delivered: EntryId::new(5, 0),
            pending: u64::from(pending.is_some()),
            oldest_pending: pending,
            lag,
            consumers: idle.iter().map(member).collect(),
        }
    }

    fn stream(groups: Vec<GroupInfo>) -> StreamInfo {
        StreamInfo {
            length: 9,
            appended: 9,
            first: Some(EntryId::new(1, 0)),
            last: EntryId::new(9, 0),
            groups,
        }
    }

    #[test]
    fn a_lane_owes_what_is_unread_and_what_is_not_acknowledged() {
        let owed = |info: &StreamInfo| {
            let it = owed(info, &GroupName::new("g"));
            (it.count, it.from, it.seen)
        };
        let after = EntryId::new(5, 1);
        assert_eq!(owed(&stream(Vec::new())), (9, EntryId::MIN, None));
        let members = [MINUTE * 2, MINUTE];
        let busy = group(Some(EntryId::new(3, 0)), Some(4), &members);
        assert_eq!(
            owed(&stream(vec![busy])),
            (5, EntryId::new(3, 0), Some(MINUTE))
        );
        let uncounted = stream(vec![group(None, None, &[])]);
        assert_eq!(owed(&uncounted), (1, after, None));
        let emptied = StreamInfo {
            length: 0,
            ..uncounted
        };
        assert_eq!(owed(&emptied), (0, after, None));
    }

    fn check(count: u64, oldest: Duration, seen: Option<Duration>, level: Level) {
        let waiting = Waiting {
            count,
            oldest,
            seen,
        };
        let told = judged(&waiting, &GroupName::new("g"), MINUTE);
        assert_eq!(told.level, level, "{waiting:?}: {told:?}");
        let is_advised = told.text().contains("`ratebox worker`");
        assert_eq!(is_advised, level != Level::Ok, "{told:?}");
    }

    #[test]
    fn requests_that_wait_while_no_worker_lives_are_told() {
        let (long, short) = (MINUTE * 5, Duration::from_secs(1));
        check(0, Duration::ZERO, None, Level::Ok);
        check(3, long, Some(short), Level::Ok);
        check(3, short, Some(long), Level::Ok);
        check(3, short, None, Level::Warn);
        check(3, long, None, Level::Fail);
        check(3, long, Some(long), Level::Fail);
    }

    #[test]
    fn a_pause_is_told_with_the_command_that_ends_it() {
        let pause = |name: &str, left| {
            let name = name.to_owned();
            paused(&Order { name, left }).text()
        };
        let all = pause("pause", None);
        assert!(
            all.contains("all groups") && all.contains("until they are resumed"),
            "{all}"
        );
        assert!(all.contains("`ratebox stream resume --reason"), "{all}");
        let one = pause("pause/g", Some(MINUTE));
        assert!(one.contains("of g take nothing new for 1 min"), "{one}");
        assert!(
            one.contains("`ratebox stream resume --group g --reason"),
            "{one}"
        );
    }
}
