//! Tells code, comments and literals of a Rust file apart. It knows no grammar, only where each of
//! them begins and ends.

/// What a file consists of. `code` has the line breaks of the original; comments are blanks there
/// and the contents of literals are quotes.
#[derive(Debug, Default)]
pub(super) struct Lexed {
    pub code: String,
    /// Line (from 1) and content of each string, raw and byte strings included.
    pub literals: Vec<(usize, String)>,
    /// Line (from 1) and text of each comment.
    pub comments: Vec<(usize, String)>,
}

/// Lexes a file; never fails, at worst a broken file ends in a literal.
pub(super) fn lex(text: &str) -> Lexed {
    let mut lexer = Lexer {
        rest: text,
        line: 1,
        lexed: Lexed::default(),
        previous: ' ',
    };
    while !lexer.rest.is_empty() {
        lexer.step();
    }
    lexer.lexed
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    lexed: Lexed,
    /// The last character of code.
    previous: char,
}

impl<'a> Lexer<'a> {
    fn step(&mut self) {
        let after_word = self.previous.is_alphanumeric() || self.previous == '_';
        if self.rest.starts_with("//") {
            self.comment(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.comment(block_comment(self.rest));
        } else if let Some(hashes) = raw_string(self.rest).filter(|_| !after_word) {
            self.raw(hashes);
        } else if self.rest.starts_with('"') {
            self.string();
        } else if let Some(end) = character(self.rest) {
            self.skip(end, '"');
            self.previous = '"';
        } else {
            self.code();
        }
    }

    fn code(&mut self) {
        let Some(letter) = self.rest.chars().next() else {
            return;
        };
        self.line += usize::from(letter == '\n');
        self.lexed.code.push(letter);
        self.previous = letter;
        self.rest = &self.rest[letter.len_utf8()..];
    }

    fn string(&mut self) {
        let mut escaped = false;
        let end = self.rest[1..].find(|letter| {
            let ends = letter == '"' && !escaped;
            escaped = letter == '\\' && !escaped;
            ends
        });
        let content = end.map_or(self.rest.len(), |end| end + 1);
        self.literal(1, content, (content + 1).min(self.rest.len()));
    }

    fn raw(&mut self, hashes: usize) {
        let start = self
            .rest
            .find('"')
            .map_or(self.rest.len(), |quote| quote + 1);
        let close = format!("\"{}", "#".repeat(hashes));
        let content = self.rest[start..]
            .find(&close)
            .map_or(self.rest.len(), |end| start + end);
        self.literal(start, content, (content + close.len()).min(self.rest.len()));
    }

    fn literal(&mut self, start: usize, content: usize, end: usize) {
        let inside = self.rest[start..content].to_owned();
        self.lexed.literals.push((self.line, inside));
        self.skip(end, '"');
        self.previous = '"';
    }

    fn comment(&mut self, end: usize) {
        self.lexed
            .comments
            .push((self.line, self.rest[..end].to_owned()));
        self.skip(end, ' ');
    }

    /// Puts `fill` in place of the next bytes, but for their line breaks.
    fn skip(&mut self, end: usize, fill: char) {
        let (skipped, rest) = self.rest.split_at(end);
        for letter in skipped.chars() {
            self.line += usize::from(letter == '\n');
            self.lexed
                .code
                .push(if letter == '\n' { '\n' } else { fill });
        }
        self.rest = rest;
    }
}

/// The length of the block comment at the start; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let here = &text.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The number of hashes when a raw string is at the start.
fn raw_string(text: &str) -> Option<usize> {
    let rest = ["r", "br", "cr"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    rest[hashes..].starts_with('"').then_some(hashes)
}

/// The length of the character literal at the start; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    if first == '\\' {
        let skip = 1 + inside[1..].chars().next()?.len_utf8();
        let end = inside[skip..].find('\'')?;
        return Some(1 + skip + end + 1);
    }
    inside[first.len_utf8()..]
        .starts_with('\'')
        .then_some(first.len_utf8() + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        lex(text).code
    }

    #[test]
    fn comments_become_blanks_and_keep_their_lines() {
        assert_eq!(code("a // b\nc"), "a     \nc");
        assert_eq!(code("a /* b\n/* c */ */ d"), "a     \n           d");
    }

    #[test]
    fn strings_of_every_kind_are_taken_out() {
        let lexed = lex("x(\"a\\\"//b\", b\"c\", r#\"d\"e\"#,\n br\"f\")");
        let literals: Vec<_> = lexed.literals.iter().map(|(l, t)| (*l, &**t)).collect();
        assert_eq!(literals, [(1, "a\\\"//b"), (1, "c"), (1, "d\"e"), (2, "f")]);
        assert!(!lexed.code.contains("//"));
    }

    #[test]
    fn a_lifetime_is_no_character_and_a_quote_in_one_opens_no_string() {
        assert_eq!(
            code("f<'a>('\"', '\\'', '\\u{1F}', b'x')")
                .matches('"')
                .count(),
            18
        );
        assert!(code("f<'a>(&'a b)").contains("'a b"));
    }

    #[test]
    fn a_word_that_ends_in_r_opens_no_raw_string() {
        assert_eq!(lex("for\"a\"").literals, [(1, "a".to_owned())]);
    }

    #[test]
    fn what_never_closes_ends_with_the_file() {
        for text in ["\"a", "r#\"a", "/* a", "'", "'\\"] {
            assert_eq!(code(text).lines().count(), 1);
        }
    }
}
