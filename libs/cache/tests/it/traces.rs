//! What whoever follows a cache's work sees of it, without the keys.

use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ratebox_cache::{Loaded, Tier};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::ground::{Node, Origin, Place, steady};

const HOUR: Duration = Duration::from_secs(3_600);

/// Notes the spans and events of caches, down to a level.
#[derive(Clone)]
struct Notes {
    level: Level,
    lines: Arc<Mutex<Vec<String>>>,
}

/// Fields as one line.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!(" {field}={value:?}");
    }
}

impl Subscriber for Notes {
    fn enabled(&self, about: &Metadata<'_>) -> bool {
        *about.level() <= self.level && about.target().starts_with("ratebox_cache")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = Line(format!("span {}", span.metadata().name()));
        span.record(&mut line);
        self.lines.lock().unwrap().push(line.0);
        Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line("event".to_owned());
        event.record(&mut line);
        self.lines.lock().unwrap().push(line.0);
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn values_that_can_never_be_kept_are_told_of_once_without_key_and_value() {
    let lines = Arc::default();
    let notes = Notes {
        level: Level::WARN,
        lines: Arc::clone(&lines),
    };
    let _following = tracing::subscriber::set_default(notes);
    let node = Node::alone(Tier::none(), steady(HOUR));
    for value in [4_711_u64, 4_712] {
        let load = move || async move {
            let tags = (0..17).map(|number| format!("t{number}"));
            Ok::<_, Infallible>(tags.fold(Loaded::value(value), Loaded::tag))
        };
        let loaded = node.cache.get_or_load("somebody@example.org", load).await;
        assert_eq!(*loaded.unwrap().unwrap(), value, "it is loaded again");
    }
    let lines = lines.lock().unwrap().clone();
    let told = "event message=a value cannot be kept: every read loads it again cache.name=rows \
                error=an entry has more than 16 tags";
    assert_eq!(lines, [told]);
}

/// A tag that is new to a server keeps its value out for a moment; too many do so for ever.
#[tokio::test]
async fn too_many_tags_are_told_of_on_a_server_even_if_they_are_new_at_each_load() {
    let place = Place::shared();
    let node = place.node(steady(HOUR), &Origin::default()).await;
    let lines = Arc::default();
    let notes = Notes {
        level: Level::WARN,
        lines: Arc::clone(&lines),
    };
    let _following = tracing::subscriber::set_default(notes);
    for load in 0..3 {
        let load = move || async move {
            let tags = (0..17).map(|number| format!("t{load}-{number}"));
            Ok::<_, Infallible>(tags.fold(Loaded::value(1_u64), Loaded::tag))
        };
        node.cache.get_or_load("k", load).await.unwrap();
    }
    let lines = lines.lock().unwrap().clone();
    let told = lines.iter().filter(|line| line.contains("16 tags"));
    assert_eq!(told.count(), 1, "{lines:?}");
}

/// Reads a key twice and returns what was seen.
async fn seen(level: Level) -> Vec<String> {
    let lines = Arc::default();
    let notes = Notes {
        level,
        lines: Arc::clone(&lines),
    };
    let _following = tracing::subscriber::set_default(notes);
    let node = Node::alone(Tier::none(), steady(HOUR));
    for _ in 0..2 {
        node.read("somebody@example.org", Duration::ZERO)
            .await
            .unwrap();
    }
    lines.lock().unwrap().clone()
}

#[tokio::test]
async fn a_load_has_a_span_with_the_name_of_its_cache_and_a_read_an_event_if_wanted() {
    let load = "span cache load cache.name=rows";
    assert_eq!(seen(Level::DEBUG).await, [load]);
    let read =
        |outcome| format!("event message=cache read cache.name=rows cache.outcome={outcome:?}");
    let all = seen(Level::TRACE).await;
    assert_eq!(all, [read("miss"), load.to_owned(), read("memory")]);
}
