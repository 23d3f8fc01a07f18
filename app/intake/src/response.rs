//! The answer to a request as it travels on the bus and over HTTP, version 1: written by the worker, read by
//! every gateway. A reader takes what it knows; another major version is refused.

mod message;

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::code::Severity;
use crate::finding::{Finding, Params};
use crate::ids;
use crate::message::{Malformed, VERSION};
use crate::object::Object;
use crate::profile::{Profile, RULESET};
use crate::request::Request;
use crate::shape::{ShapeError, utf8};
use crate::verdict::{Confidence, Decision, Normalized, Verdict};

/// How the items of a request came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All are DONE.
    Success,
    /// Some are DONE, some are ERROR.
    Partial,
    /// All are ERROR.
    Error,
}

impl Status {
    /// The status as one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Partial => "partial",
            Self::Error => "error",
        }
    }

    /// The status of a request from the decisions on its items.
    pub fn of(decisions: impl IntoIterator<Item = Decision>) -> Self {
        let (mut done, mut error) = (false, false);
        for decision in decisions {
            match decision {
                Decision::Done => done = true,
                Decision::Error => error = true,
            }
        }
        match (done, error) {
            (_, false) => Self::Success,
            (true, true) => Self::Partial,
            (false, true) => Self::Error,
        }
    }
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// Version of the shape.
    pub v: u64,
    /// The id that the producer knows: its own for foreign producers, else ours.
    pub request_id: String,
    /// Our id.
    pub id: Uuid,
    /// The account that the request belongs to.
    pub owner: String,
    /// The client's own reference.
    pub external_ref: Option<String>,
    /// Profile that was used.
    pub profile: Profile,
    /// Version of the rules that were used.
    pub ruleset: Cow<'static, str>,
    /// How the items came out.
    pub status: Status,
    /// One result an item, in their order.
    pub results: Vec<ItemResult>,
    /// Time from taking the message to the verdicts.
    pub processing_time_ms: u64,
    /// When the answer was made.
    pub timestamp: Timestamp,
    /// The client's id of the batch or dataset.
    pub batch_id: Option<String>,
}

/// The verdict on one item, as it is answered and stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemResult {
    /// Follows from the request's id and the item's number.
    pub item_id: Uuid,
    /// Number of the item in its request, from 0.
    pub item_no: u32,
    /// DONE or ERROR.
    pub verdict: Decision,
    /// Number of the first error.
    pub error_code: Option<u16>,
    /// Every violated rule.
    pub errors: Vec<ItemError>,
    /// How clean the record is, 0.05 to 0.95.
    pub confidence: Confidence,
    /// The values in their normal form.
    #[serde(default)]
    pub normalized: Normalized,
    /// What else was noticed.
    #[serde(default)]
    pub details: Details,
}

/// One violated rule. `Debug` hides the message.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemError {
    /// Number of the code.
    pub code: u16,
    /// Field that it is about.
    pub field: Cow<'static, str>,
    /// For people.
    pub message: Cow<'static, str>,
}

impl fmt::Debug for ItemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.code, self.field)
    }
}

/// What was noticed beside the violated rules.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Details {
    /// Warnings and information, in the order of the fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<ItemWarning>,
}

/// One thing that was noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemWarning {
    /// Number of the code.
    pub code: u16,
    /// Name of the code.
    pub slug: Cow<'static, str>,
    /// `warning` or `info`.
    pub severity: Severity,
    /// Field that it is about.
    pub field: Cow<'static, str>,
    /// Details without values of the item.
    #[serde(default)]
    pub params: Params,
}

/// When and how fast an answer was made; only the worker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// When.
    pub at: Timestamp,
    /// Time from taking the message to the verdicts.
    pub took_ms: u64,
}

impl Response {
    /// The answer to a request, from the verdicts on its items in their order, all made under one profile.
    pub fn new(
        request: &Request,
        profile: Profile,
        verdicts: Vec<Verdict>,
        answered: Answered,
    ) -> Self {
        let numbered = (0..).zip(verdicts);
        let results: Vec<_> = numbered
            .map(|(number, verdict)| {
                ItemResult::new(ids::item_id(request.request_id, number), number, verdict)
            })
            .collect();
        Self {
            v: VERSION,
            request_id: request.answer_id(),
            id: request.request_id,
            owner: request.owner.clone(),
            external_ref: request.external_ref.clone(),
            profile,
            ruleset: RULESET.into(),
            status: Status::of(results.iter().map(|result| result.verdict)),
            results,
            processing_time_ms: answered.took_ms,
            timestamp: answered.at,
            batch_id: request.batch_id.clone(),
        }
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`Malformed`] when it is no answer of a version that this program knows.
    pub fn from_message(bytes: &[u8]) -> Result<Self, Malformed> {
        let text = utf8(bytes)?;
        match serde_json::from_str::<Self>(text) {
            Ok(response) if response.v == VERSION => Ok(response),
            Ok(_) => Err(Malformed::UnknownVersion),
            Err(error) => Err(Self::why(text, &error)),
        }
    }

    /// An answer of another version is told apart from a broken one.
    fn why(text: &str, error: &serde_json::Error) -> Malformed {
        match Object::read(text, text) {
            Ok(Some(object)) => crate::message::check_version(object.get(&["v"]), object.has("v"))
                .err()
                .unwrap_or_else(|| ShapeError::from_json(error, text).into()),
            Ok(None) => Malformed::NotObject,
            Err(error) => error.into(),
        }
    }
}

impl ItemResult {
    /// The result of one item.
    pub fn new(item_id: Uuid, item_no: u32, verdict: Verdict) -> Self {
        Self {
            item_id,
            item_no,
            verdict: verdict.decision(),
            error_code: verdict.error_code(),
            errors: verdict.errors.into_iter().map(ItemError::from).collect(),
            confidence: verdict.confidence,
            normalized: verdict.normalized,
            details: Details {
                warnings: verdict
                    .warnings
                    .into_iter()
                    .map(ItemWarning::from)
                    .collect(),
            },
        }
    }
}

impl From<Finding> for ItemError {
    fn from(finding: Finding) -> Self {
        Self {
            code: finding.code.number,
            field: finding.code.field.into(),
            message: finding.message,
        }
    }
}

impl From<Finding> for ItemWarning {
    fn from(finding: Finding) -> Self {
        Self {
            code: finding.code.number,
            slug: finding.code.slug.into(),
            severity: finding.severity,
            field: finding.code.field.into(),
            params: finding.params,
        }
    }
}
