//! A worker in thirty lines: judges what is on the bus, writes it, answers.

use ratebox_intake::{Answered, Profile, Response, Rules, decode};
use ratebox_kit::{Clock, Message};
use ratebox_store::{Batch, Finished, Rewrite, Stamp};
use ratebox_stream::{Append, Entry, Log, StreamName};

use crate::door::Door;

/// What the worker does of its work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    /// Writes and answers.
    StoreAndStream,
    /// Writes, and the answer is lost.
    StoreOnly,
}

impl Door {
    /// Judges everything on the bus; returns how many requests it was.
    pub(crate) async fn judge_all(&self, tell: Tell) -> usize {
        let mut judged = 0;
        for (_, stream) in self.lanes.iter() {
            for entry in self.bus.entries(stream.as_str()).await {
                self.judge(&entry, tell).await;
                judged += 1;
            }
        }
        judged
    }

    async fn judge(&self, entry: &Entry, tell: Tell) {
        let request = decode(&entry.fields, 1000).unwrap().into_own().unwrap();
        let now = Clock::system().now();
        let verdicts = Rules::default().judge_all(&request.items);
        let answered = Answered {
            at: now,
            took_ms: 1,
        };
        let response = Response::new(&request, Profile::Classic, verdicts, answered);
        let body = response.to_message();
        let mut batch = Batch::new(Rewrite::Never);
        let stamp = Stamp {
            ruleset: "test",
            group: "group",
            consumer: "consumer",
            started_at: now,
            completed_at: now,
        };
        batch.request(&Finished {
            id: request.request_id,
            is_foreign: false,
            owner: &request.owner,
            source: &request.source,
            action: request.action.word(),
            lane: request.lane.word(),
            profile: "classic",
            item_count: u32::try_from(request.items.len()).unwrap(),
            external_ref: request.external_ref.as_deref(),
            batch_id: request.batch_id.as_deref(),
            state: response.status.word(),
            response: std::str::from_utf8(&body).unwrap(),
            accepted_at: request.accepted_at(),
        });
        self.store
            .db()
            .run(batch.into_statements(&stamp).unwrap())
            .await
            .unwrap();
        if tell == Tell::StoreAndStream {
            let message = Message::new(ratebox_kit::id::new().to_string(), body);
            let importer = request.source == "importer";
            let name = if importer {
                "importer_responses"
            } else {
                "extension_responses"
            };
            let answers = StreamName::new(name);
            self.bus
                .append(&[Append::new(answers, message)])
                .await
                .remove(0)
                .unwrap();
        }
    }
}
