//! A broker that does as it is told.

use std::sync::Mutex;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use ratebox_outbox::{Broker, Outgoing, PublishError};

/// What the broker answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Up,
    Down,
    /// Refuses bodies that begin with `bad`, or contain what was told.
    Picky,
    /// Never answers.
    Silent,
}

pub(crate) struct FakeBroker {
    mood: Mutex<Mood>,
    bad: Mutex<Option<Vec<u8>>>,
    got: Mutex<Vec<Outgoing>>,
    before_next: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl FakeBroker {
    pub(crate) fn new(mood: Mood) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self {
            mood: Mutex::new(mood),
            bad: Mutex::default(),
            got: Mutex::default(),
            before_next: Mutex::default(),
        })
    }

    /// Does this before it answers the next call.
    pub(crate) fn before_next(&self, work: BoxFuture<'static, ()>) {
        *self.before_next.lock().unwrap() = Some(work);
    }

    fn is_bad(&self, message: &Outgoing) -> bool {
        let body = &message.message.body;
        match self.bad.lock().unwrap().as_deref() {
            None => body.starts_with(b"bad"),
            Some(bad) => body.windows(bad.len()).any(|it| it == bad),
        }
    }

    pub(crate) fn turn(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Refuses bodies that contain this.
    pub(crate) fn refuse(&self, bad: &[u8]) {
        *self.bad.lock().unwrap() = Some(bad.to_vec());
        self.turn(Mood::Picky);
    }

    pub(crate) fn got(&self) -> Vec<Outgoing> {
        self.got.lock().unwrap().clone()
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.got
            .lock()
            .unwrap()
            .iter()
            .map(|it| it.message.id.0.clone())
            .collect()
    }

    pub(crate) fn bodies(&self) -> Vec<String> {
        let text = |it: &Outgoing| String::from_utf8(it.message.body.to_vec()).unwrap();
        self.got.lock().unwrap().iter().map(text).collect()
    }
}

#[async_trait]
impl Broker for FakeBroker {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let work = self.before_next.lock().unwrap().take();
        if let Some(work) = work {
            work.await;
        }
        let mood = *self.mood.lock().unwrap();
        if mood == Mood::Silent {
            std::future::pending::<()>().await;
        }
        let mut answers = Vec::new();
        for message in messages {
            answers.push(match mood {
                Mood::Down => Err(PublishError::Down("on purpose".to_owned())),
                Mood::Picky if self.is_bad(&message) => {
                    Err(PublishError::Rejected("on purpose".to_owned()))
                }
                _ => {
                    self.got.lock().unwrap().push(message);
                    Ok(())
                }
            });
        }
        answers
    }
}
