//! The event that tells the sender.

use bytes::Bytes;
use ratebox_intake::Request;
use ratebox_outbox::Event;

use crate::AnswerStreams;

/// The answer to a request, for the stream that its sender reads.
pub(crate) fn event(request: &Request, response: Bytes, streams: &AnswerStreams) -> Event {
    Event::new(stream(request, streams), response)
}

fn stream<'a>(request: &'a Request, streams: &'a AnswerStreams) -> &'a str {
    if let Some(asked) = &request.callback_stream
        && streams.allowed.contains(asked)
    {
        return asked;
    }
    if request.source == "importer" {
        &streams.importer
    } else {
        &streams.extension
    }
}

#[cfg(test)]
mod tests {
    use ratebox_kit::id;

    use super::*;

    #[test]
    fn answers_go_by_source_unless_an_allowed_stream_is_asked_for() {
        let mut streams = AnswerStreams::default();
        let mut request = Request::new(id::new(), "a", "extension");
        assert_eq!(stream(&request, &streams), "extension_responses");
        request.source = "importer".to_owned();
        assert_eq!(stream(&request, &streams), "importer_responses");
        request.callback_stream = Some("mine".to_owned());
        assert_eq!(stream(&request, &streams), "importer_responses");
        streams.allowed.push("mine".to_owned());
        assert_eq!(stream(&request, &streams), "mine");
    }
}
