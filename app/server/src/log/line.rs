//! One line of the log on its way to the standard error.
//!
//! A line that cannot be written is lost, and nothing else: neither a full disk under the log nor a
//! reader that is gone may end a role. Foreign text in a line cannot begin another one, nor command a
//! terminal: ids and names come from whoever may append to the bus.

use std::io;

use tracing_subscriber::fmt::MakeWriter;

use crate::visible::visible;

/// What begins and ends a change of colour.
const COLOUR: (&str, char) = ("\u{1b}[", 'm');

/// Makes the standard error what the log is written to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    pub(super) form: Form,
}

/// What a line may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// JSON, which writes control characters out by itself.
    Json,
    /// Text.
    Plain,
    /// Text with colours.
    Coloured,
}

/// Takes one event a call, as the subscriber writes it.
pub(super) struct Line(Form);

// === impl Lines ===

impl MakeWriter<'_> for Lines {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line(self.form)
    }
}

// === impl Line ===

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let _ = io::stderr().write_all(shown(&text, self.0).as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = io::stderr().flush();
        Ok(())
    }
}

fn shown(event: &str, form: Form) -> String {
    let line = event.strip_suffix('\n').unwrap_or(event);
    let mut shown = match form {
        Form::Json => line.to_owned(),
        Form::Plain => visible(line).into_owned(),
        Form::Coloured => coloured(line),
    };
    shown.push('\n');
    shown
}

/// The colours are ours, or harmless; everything else that a terminal would obey is written out.
fn coloured(line: &str) -> String {
    let (begin, end) = COLOUR;
    let mut parts = line.split(begin);
    let mut shown = visible(parts.next().unwrap_or_default()).into_owned();
    for part in parts {
        let codes = part.split_once(end);
        let codes = codes.filter(|(codes, _)| codes.chars().all(|c| matches!(c, '0'..='9' | ';')));
        match codes {
            Some((codes, text)) => {
                shown.push_str(begin);
                shown.push_str(codes);
                shown.push(end);
                shown.push_str(&visible(text));
            }
            None => {
                shown.push_str(&visible(begin));
                shown.push_str(&visible(part));
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_stays_in_its_line_and_commands_nothing() {
        let event = "WARN id=a\u{1b}[31m\nERROR forged \u{1b}]0;title\u{7}\n";
        assert_eq!(
            shown(event, Form::Plain),
            "WARN id=a\\u{1b}[31m\\nERROR forged \\u{1b}]0;title\\u{7}\n"
        );
        let event = "\u{1b}[33m WARN\u{1b}[0m id=a\nb \u{1b}[2J\u{1b}[1;31mred\n";
        assert_eq!(
            shown(event, Form::Coloured),
            "\u{1b}[33m WARN\u{1b}[0m id=a\\nb \\u{1b}[2J\u{1b}[1;31mred\n"
        );
    }

    #[test]
    fn json_is_left_as_it_is() {
        let event = "{\"message\":\"a\\nb\"}\n";
        assert_eq!(shown(event, Form::Json), event);
    }
}
