//! Reads records one by one, in bounded memory, whatever is in the file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use csv::{ByteRecord, ReaderBuilder};

use super::Format;
use super::columns::Columns;

/// Bytes of one record at most; more is a quotation mark that is not closed, or no record.
const RECORD_MAX: usize = 1 << 20;
/// Bytes that are looked at to find out what the input is.
const HEAD: u64 = 8 << 10;
/// Bytes read at once.
const BUFFER: usize = 128 << 10;

/// A record as it was read.
#[derive(Debug)]
pub(super) struct Record {
    /// Where it begins, from 1.
    pub(super) line: u64,
    /// What was read.
    pub(super) raw: Raw,
}

/// What was read.
#[derive(Debug)]
pub(super) enum Raw {
    /// A row of a CSV file.
    Cells(ByteRecord),
    /// A line of an NDJSON file.
    Line(Vec<u8>),
    /// Longer than [`RECORD_MAX`]; it was skipped.
    TooLong,
    /// A quotation mark that nothing closes, up to the end of the file.
    Unclosed,
}

impl Record {
    /// Bytes of its text.
    pub(super) fn bytes(&self) -> usize {
        match &self.raw {
            Raw::Cells(row) => row.as_slice().len(),
            Raw::Line(text) => text.len(),
            Raw::TooLong | Raw::Unclosed => 0,
        }
    }
}

type Input = BufReader<Box<dyn Read>>;

/// The input.
pub(super) struct Source {
    length: Option<u64>,
    kind: Kind,
}

enum Kind {
    Csv { columns: Columns, rows: Box<Rows> },
    Lines { input: Input, line: u64 },
}

// === impl Source ===

impl Source {
    /// Opens a file, or the standard input for `-`, and finds out how it is written. `read` counts
    /// the bytes.
    ///
    /// # Errors
    /// When it cannot be read, or is of a kind that this program does not read.
    pub(super) fn open(path: &Path, format: Format, read: Arc<AtomicU64>) -> Result<Self> {
        let (inner, length): (Box<dyn Read>, _) = if path == Path::new("-") {
            (Box::new(io::stdin()), None)
        } else {
            let cannot = || format!("{} cannot be read", path.display());
            let file = File::open(path).with_context(cannot)?;
            let about = file.metadata().with_context(cannot)?;
            if about.is_dir() {
                bail!("{} is a folder", path.display());
            }
            (
                Box::new(file),
                Some(about.len()).filter(|_| about.is_file()),
            )
        };
        let source = Self::read(Box::new(Counted { inner, read }), format_of(path, format))
            .with_context(|| format!("{} cannot be judged", shown(path)))?;
        Ok(Self { length, ..source })
    }

    fn read(mut inner: Box<dyn Read>, format: Format) -> Result<Self> {
        let mut head = Vec::new();
        inner.by_ref().take(HEAD).read_to_end(&mut head)?;
        refuse_foreign(&head)?;
        let bom = head.strip_prefix("\u{feff}".as_bytes()).map_or(0, |_| 3);
        head.drain(..bom);
        let is_json = head
            .trim_ascii_start()
            .first()
            .is_some_and(|byte| b"{[".contains(byte));
        if is_json && format != Format::Csv && head.trim_ascii_start().starts_with(b"[") {
            bail!("it is one JSON array; write one object a line: jq -c '.[]' FILE");
        }
        let style = Style::of(&head);
        // A last line without an end gets one, so that all lines count alike; a second one is only
        // ever read by a row that does not end.
        let whole = Cursor::new(head)
            .chain(inner)
            .chain(Cursor::new(style.newlines()));
        let input = BufReader::with_capacity(BUFFER, Box::new(whole) as Box<dyn Read>);
        let kind = match format {
            Format::Csv => csv(input, style)?,
            Format::Auto if !is_json => csv(input, style)?,
            Format::Ndjson | Format::Auto => Kind::Lines { input, line: 0 },
        };
        Ok(Self { length: None, kind })
    }

    /// Bytes in all, when that is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// The columns of a CSV file.
    pub(super) fn columns(&self) -> Option<&Columns> {
        match &self.kind {
            Kind::Csv { columns, .. } => Some(columns),
            Kind::Lines { .. } => None,
        }
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// When the input cannot be read further.
    pub(super) fn next(&mut self) -> Result<Option<Record>> {
        let next = match &mut self.kind {
            Kind::Csv { rows, .. } => rows.next(),
            Kind::Lines { input, line } => next_line(input, line),
        };
        next.context("the input cannot be read further")
    }
}

fn shown(path: &Path) -> std::path::Display<'_> {
    let path = if path == Path::new("-") {
        Path::new("the standard input")
    } else {
        path
    };
    path.display()
}

fn format_of(path: &Path, format: Format) -> Format {
    let ending = path
        .extension()
        .and_then(|it| it.to_str())
        .map(str::to_ascii_lowercase);
    match (format, ending.as_deref()) {
        (Format::Auto, Some("csv" | "tsv")) => Format::Csv,
        (Format::Auto, Some("ndjson" | "jsonl")) => Format::Ndjson,
        (format, _) => format,
    }
}

/// Says what to do with files that look like records and are none.
fn refuse_foreign(head: &[u8]) -> Result<()> {
    let known: [(&[u8], &str); 6] = [
        (b"\xff\xfe", "it is UTF-16; save it as UTF-8"),
        (b"\xfe\xff", "it is UTF-16; save it as UTF-8"),
        (
            b"\x1f\x8b",
            "it is compressed; pipe it: gunzip -c FILE | ratebox validate -",
        ),
        (
            b"\x28\xb5\x2f\xfd",
            "it is compressed; pipe it: zstd -dc FILE | ratebox validate -",
        ),
        (
            b"PK\x03\x04",
            "it is a spreadsheet or an archive; export it as CSV in UTF-8",
        ),
        (
            b"PAR1",
            "it is Parquet, which this version does not read; export it as CSV",
        ),
    ];
    for (magic, advice) in known {
        if head.starts_with(magic) {
            bail!(advice);
        }
    }
    Ok(())
}

/// How a CSV file is written, by its header.
#[derive(Clone, Copy)]
struct Style {
    /// The most frequent of comma, semicolon and tab.
    delimiter: u8,
    /// Lines end in CR LF.
    windows: bool,
}

impl Style {
    fn of(head: &[u8]) -> Self {
        let header = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let count = |wanted: u8| header.iter().filter(|byte| **byte == wanted).count();
        // The last of equals wins, so the comma stands last.
        let delimiter = [b'\t', b';', b',']
            .into_iter()
            .max_by_key(|byte| count(*byte));
        let windows = header.ends_with(b"\r");
        Self {
            delimiter: delimiter.unwrap_or(b','),
            windows,
        }
    }

    fn newlines(self) -> &'static [u8] {
        if self.windows { b"\r\n\r\n" } else { b"\n\n" }
    }
}

/// Counts what is read.
struct Counted {
    inner: Box<dyn Read>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

// === Lines ===

/// The next line that is not blank.
fn next_line(input: &mut Input, line: &mut u64) -> io::Result<Option<Record>> {
    loop {
        let mut text = Vec::new();
        let limit = RECORD_MAX as u64 + 1;
        if input.by_ref().take(limit).read_until(b'\n', &mut text)? == 0 {
            return Ok(None);
        }
        *line += 1;
        if text.len() > RECORD_MAX && text.last() != Some(&b'\n') {
            input.skip_until(b'\n')?;
            return Ok(Some(Record {
                line: *line,
                raw: Raw::TooLong,
            }));
        }
        text.truncate(text.trim_ascii_end().len());
        if !text.is_empty() {
            return Ok(Some(Record {
                line: *line,
                raw: Raw::Line(text),
            }));
        }
    }
}

// === Rows ===

fn csv(input: Input, style: Style) -> Result<Kind> {
    let mut rows = Box::new(Rows {
        reader: Some(reader(input, style)),
        style,
        lines_before: 0,
    });
    let Some(Record {
        raw: Raw::Cells(header),
        ..
    }) = rows.next()?
    else {
        bail!("it is empty, or its first line is no header");
    };
    Ok(Kind::Csv {
        columns: Columns::new(&header)?,
        rows,
    })
}

/// Reads rows; a row that does not end is given up and reading goes on in the line after it.
struct Rows {
    /// `None` only while it is replaced.
    reader: Option<csv::Reader<Budget>>,
    style: Style,
    /// Lines before those that the reader has seen.
    lines_before: u64,
}

/// Ends where a record has used up its bytes. The parser then hands out what it has.
struct Budget {
    input: Input,
    /// Bytes handed out in all.
    given: u64,
    left: usize,
    cut: bool,
}

impl Read for Budget {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            self.cut = !self.input.fill_buf()?.is_empty();
            return Ok(0);
        }
        let size = buffer.len().min(self.left);
        let count = self.input.read(&mut buffer[..size])?;
        self.left -= count;
        self.given += count as u64;
        Ok(count)
    }
}

impl Rows {
    fn next(&mut self) -> io::Result<Option<Record>> {
        let Some(reader) = &mut self.reader else {
            return Ok(None);
        };
        reader.get_mut().left = RECORD_MAX;
        let mut row = ByteRecord::new();
        let more = reader.read_byte_record(&mut row)?;
        let line = self.lines_before + begin(reader.position().line(), &row, self.style);
        if reader.get_ref().cut {
            let line = self.lines_before + looked_from(&row, self.style);
            self.start_again()?;
            return Ok(Some(Record {
                line,
                raw: Raw::TooLong,
            }));
        }
        // Any row with an end leaves the last newline to the next one.
        let all = reader.position().byte() == reader.get_ref().given;
        if more && all && reader.get_mut().input.fill_buf()?.is_empty() {
            return Ok(Some(Record {
                line: self.lines_before + looked_from(&row, self.style),
                raw: Raw::Unclosed,
            }));
        }
        Ok(more.then_some(Record {
            line,
            raw: Raw::Cells(row),
        }))
    }

    fn start_again(&mut self) -> io::Result<()> {
        let Some(reader) = self.reader.take() else {
            return Ok(());
        };
        self.lines_before += reader.position().line();
        let mut input = reader.into_inner().input;
        input.skip_until(b'\n')?;
        self.reader = Some(self::reader(input, self.style));
        Ok(())
    }
}

/// The line in which a row begins. The parser tells where it looked first, which is before blank
/// lines, so it is counted back from where the row ends: after LF, or between CR and LF.
fn begin(end: u64, row: &ByteRecord, style: Style) -> u64 {
    let inside = row.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
    end.saturating_sub(inside + u64::from(!style.windows))
}

/// The line in which the parser looked for a row first, blank ones included: near enough for a row
/// that has no end.
fn looked_from(row: &ByteRecord, style: Style) -> u64 {
    row.position().map_or(0, csv::Position::line) + u64::from(style.windows)
}

fn reader(input: Input, style: Style) -> csv::Reader<Budget> {
    let budget = Budget {
        input,
        given: 0,
        left: RECORD_MAX,
        cut: false,
    };
    ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(style.delimiter)
        .buffer_capacity(BUFFER)
        .from_reader(budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &[u8], format: Format) -> Source {
        Source::read(Box::new(Cursor::new(text.to_vec())), format).unwrap()
    }

    fn all(source: &mut Source) -> Vec<(u64, String)> {
        let mut records = Vec::new();
        while let Some(record) = source.next().unwrap() {
            let text = match record.raw {
                Raw::Cells(row) => row
                    .iter()
                    .map(String::from_utf8_lossy)
                    .collect::<Vec<_>>()
                    .join("|"),
                Raw::Line(text) => String::from_utf8_lossy(&text).into_owned(),
                Raw::TooLong => "too long".to_owned(),
                Raw::Unclosed => "unclosed".to_owned(),
            };
            records.push((record.line, text));
        }
        records
    }

    fn check(text: &str, expected: &[(u64, &str)]) {
        let mut source = source(text.as_bytes(), Format::Auto);
        let records = all(&mut source);
        let records: Vec<_> = records
            .iter()
            .map(|(line, text)| (*line, text.as_str()))
            .collect();
        assert_eq!(records, expected, "{text:?}");
    }

    #[test]
    fn rows_are_read_with_byte_order_mark_quoted_newlines_and_other_separators() {
        check(
            "\u{feff}phone,name\n1,\"a\nb\"\n\n2,c\n",
            &[(2, "1|a\nb"), (5, "2|c")],
        );
        check(
            "phone;name\r\n1;a,b\r\n\r\n2;c",
            &[(2, "1|a,b"), (4, "2|c")],
        );
        check("phone\tname\n1\ta\n", &[(2, "1|a")]);
        check("phone\n1\n", &[(2, "1")]);
    }

    #[test]
    fn lines_are_read_and_blank_ones_skipped() {
        check(
            "\u{feff}{\"a\":1}\r\n\n  \n{\"b\":2}",
            &[(1, "{\"a\":1}"), (4, "{\"b\":2}")],
        );
    }

    #[test]
    fn an_endless_row_is_given_up_and_the_rest_is_read() {
        let long = "x".repeat(RECORD_MAX * 2);
        let text = format!("phone,name\n1,\"open {long}\n2,b\n3,c\n");
        let mut source = source(text.as_bytes(), Format::Csv);
        assert_eq!(
            all(&mut source),
            [
                (2, "too long".to_owned()),
                (3, "2|b".to_owned()),
                (4, "3|c".to_owned())
            ]
        );
    }

    #[test]
    fn an_endless_line_is_given_up_and_the_rest_is_read() {
        let text = format!("{{\"a\":\"{}\"}}\n{{}}\n", "x".repeat(RECORD_MAX));
        check(&text, &[(1, "too long"), (2, "{}")]);
    }

    #[test]
    fn a_quotation_mark_that_nothing_closes_is_told() {
        check("phone\n1\n\"2\n3\n", &[(2, "1"), (3, "unclosed")]);
        check("phone\n\"2\n\n\"", &[(2, "2\n\n")]);
        check("phone\r\n\"2", &[(2, "unclosed")]);
    }

    #[test]
    fn files_of_another_kind_are_refused_with_advice() {
        for (head, advice) in [
            (&b"\xff\xfeh\0"[..], "UTF-8"),
            (b"\x1f\x8b\x08", "gunzip"),
            (b" [{}]", "jq"),
        ] {
            let input = Box::new(Cursor::new(head.to_vec()));
            let error = Source::read(input, Format::Auto).err().unwrap();
            assert!(error.to_string().contains(advice), "{error}");
        }
        let empty = Box::new(Cursor::new(Vec::new()));
        assert!(Source::read(empty, Format::Auto).is_err());
    }
}
