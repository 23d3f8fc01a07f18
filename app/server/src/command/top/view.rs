//! What is on the screen: two looks, the chosen consumer, a question, a message.

use super::sample::{LaneSeen, Member, Sample, consumer_rate, rates};

/// What the screen shows.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Whether colours may be used.
    pub(super) colour: bool,
    pub(super) now: Option<Sample>,
    before: Option<Sample>,
    chosen: usize,
    /// A deed that waits for its yes.
    pub(super) asks: Option<Question>,
    /// What came of the last deed.
    pub(super) message: Option<String>,
    /// The workers were paused from here, and it is to be told when nothing is in work any more.
    pub(super) drains: bool,
}

/// What is asked before it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Hand on what this consumer holds?
    Claim(String),
    /// Let the workers take nothing new?
    Pause,
    /// The same, and tell when nothing is in work any more?
    Drain,
    /// Let them go on?
    Resume,
}

/// A lane with how fast it moves, in entries a second.
#[derive(Clone, Debug)]
pub(super) struct LaneRow {
    pub(super) seen: LaneSeen,
    pub(super) came: Option<f64>,
    pub(super) done: Option<f64>,
}

/// A consumer with what the store knows of it.
#[derive(Clone, Debug)]
pub(super) struct MemberRow {
    pub(super) member: Member,
    pub(super) rate: Option<f64>,
    pub(super) error_rate_percent: Option<f64>,
}

// === impl View ===

impl View {
    pub(super) fn new(colour: bool) -> Self {
        Self {
            colour,
            ..Self::default()
        }
    }

    /// Takes what was found.
    pub(super) fn learn(&mut self, sample: Sample) {
        self.before = self.now.replace(sample);
        self.mind_drain();
        self.chosen = self.chosen.min(self.members().len().saturating_sub(1));
    }

    /// Tells how far a drain is.
    fn mind_drain(&mut self) {
        if !self.drains {
            return;
        }
        let Some(Ok(lanes)) = self.now.as_ref().map(|now| &now.lanes) else {
            return;
        };
        match lanes.iter().map(|lane| lane.pending).sum::<u64>() {
            0 => {
                self.drains = false;
                self.say("drained: nothing is in work; r lets the workers go on");
            }
            left => self.say(format!("draining: {left} still in work")),
        }
    }

    pub(super) fn say(&mut self, message: impl Into<String>) {
        self.message = Some(message.into());
    }

    /// Chooses another consumer.
    pub(super) fn choose(&mut self, by: isize) {
        let last = self.members().len().saturating_sub(1);
        self.chosen = self.chosen.saturating_add_signed(by).min(last);
    }

    /// The place of the chosen consumer.
    pub(super) fn chosen(&self) -> usize {
        self.chosen
    }

    /// The chosen consumer.
    pub(super) fn chosen_member(&self) -> Option<&Member> {
        self.members().get(self.chosen)
    }

    pub(super) fn lane_rows(&self) -> Vec<LaneRow> {
        let Some(now) = &self.now else {
            return Vec::new();
        };
        let row = |seen: &LaneSeen| {
            let before = self.before.as_ref();
            let rates = before.and_then(|before| rates(before, now, seen.lane));
            LaneRow {
                seen: seen.clone(),
                came: rates.map(|(came, _)| came),
                done: rates.and_then(|(_, done)| done),
            }
        };
        now.lanes.iter().flatten().map(row).collect()
    }

    pub(super) fn member_rows(&self) -> Vec<MemberRow> {
        let Some(now) = &self.now else {
            return Vec::new();
        };
        let row = |member: &Member| {
            let before = self.before.as_ref();
            let known = now.performance.iter().flatten();
            let known = known.into_iter().find(|it| it.name == member.name);
            MemberRow {
                member: member.clone(),
                rate: before.and_then(|before| consumer_rate(before, now, &member.name)),
                error_rate_percent: known.map(|it| it.error_rate_percent),
            }
        };
        now.members.iter().map(row).collect()
    }

    fn members(&self) -> &[Member] {
        self.now.as_ref().map_or(&[], |now| &now.members)
    }
}
