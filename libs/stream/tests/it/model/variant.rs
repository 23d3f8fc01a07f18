//! Broken variants of the protocol. Each leaves out one thing, and must break a law.

use super::law::Law;
use super::protocol::Scene;
use super::scenes;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    AckBeforeCommit,
    NoInbox,
    ClaimWithoutIdleCheck,
    LeaseOfOneBeat,
    TouchWithoutOwnerCheck,
    ReleaseWithoutOwnerCheck,
    AckBeforeDelay,
    DelayWithoutSavingTheLastCopy,
    TouchForgetsTheLastCopy,
    PromoteRemovesFirst,
    AckBeforeLetter,
    LetterWithoutKey,
    TrimAtLastDelivered,
    GroupMadeAtTheEnd,
    VanishedUntold,
    VanishedForgottenAtOnce,
    NobodyClaims,
    PoisonNeverBuried,
    NobodyPromotes,
    AdmitsWhatItHolds,
    SuspectsTogether,
    SnoozeSpendsAnAttempt,
    TimeOutTakenForDone,
    CancelWithoutLetter,
}

/// A variant, the law that it must break, and a scene in which it does.
pub(crate) struct Case {
    pub(crate) variant: Variant,
    pub(crate) law: Law,
    pub(crate) scene: fn() -> Scene,
}

const fn case(variant: Variant, law: Law, scene: fn() -> Scene) -> Case {
    Case {
        variant,
        law,
        scene,
    }
}

pub(crate) const CASES: [Case; 24] = [
    case(
        Variant::AckBeforeCommit,
        Law::AckAfterCommit,
        scenes::hand_backs,
    ),
    case(Variant::NoInbox, Law::OneEffect, scenes::hand_backs),
    case(
        Variant::ClaimWithoutIdleCheck,
        Law::LeaseHolds,
        scenes::hand_backs,
    ),
    case(Variant::LeaseOfOneBeat, Law::LeaseHolds, scenes::hand_backs),
    case(
        Variant::TouchWithoutOwnerCheck,
        Law::LeaseHolds,
        scenes::hand_backs,
    ),
    case(
        Variant::ReleaseWithoutOwnerCheck,
        Law::LeaseHolds,
        scenes::hand_backs,
    ),
    case(
        Variant::AckBeforeDelay,
        Law::NothingIsLost,
        scenes::failures,
    ),
    case(
        Variant::DelayWithoutSavingTheLastCopy,
        Law::LastCopyIsKept,
        scenes::lost_data,
    ),
    case(
        Variant::TouchForgetsTheLastCopy,
        Law::LastCopyIsKept,
        scenes::lost_data,
    ),
    case(
        Variant::PromoteRemovesFirst,
        Law::NothingIsLost,
        scenes::failures,
    ),
    case(
        Variant::AckBeforeLetter,
        Law::NothingIsLost,
        scenes::failures,
    ),
    case(Variant::LetterWithoutKey, Law::OneLetter, scenes::failures),
    case(Variant::TrimAtLastDelivered, Law::TrimKeeps, scenes::trims),
    case(
        Variant::GroupMadeAtTheEnd,
        Law::NothingIsLost,
        scenes::lost_data,
    ),
    case(
        Variant::VanishedUntold,
        Law::NothingIsLost,
        scenes::lost_data,
    ),
    case(
        Variant::VanishedForgottenAtOnce,
        Law::NothingIsLost,
        scenes::lost_news,
    ),
    case(Variant::NobodyClaims, Law::EverythingEnds, scenes::failures),
    case(
        Variant::NobodyPromotes,
        Law::EverythingEnds,
        scenes::failures,
    ),
    case(
        Variant::PoisonNeverBuried,
        Law::EverythingEnds,
        scenes::poison,
    ),
    case(Variant::AdmitsWhatItHolds, Law::OneHand, scenes::hand_backs),
    case(
        Variant::SuspectsTogether,
        Law::InnocentsAreSpared,
        scenes::poison,
    ),
    case(
        Variant::SnoozeSpendsAnAttempt,
        Law::AttemptsAreEarned,
        scenes::snoozes,
    ),
    case(
        Variant::TimeOutTakenForDone,
        Law::AckAfterCommit,
        scenes::snoozes,
    ),
    case(
        Variant::CancelWithoutLetter,
        Law::NothingIsLost,
        scenes::cancels,
    ),
];
