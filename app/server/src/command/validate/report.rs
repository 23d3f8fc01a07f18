//! The report: every record that failed, with its line and what is wrong, as CSV or NDJSON.
//!
//! It holds the records themselves, so only its maker may read the file.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::super::private_file;
use super::columns::Columns;
use super::judge::{Failure, Original, Why};

/// What a cell begins with that a spreadsheet would run as a formula.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// Characters of a line that could not be read, in an NDJSON report.
const TEXT_MAX_CHARS: usize = 1_000;

/// A report that is being written.
pub(super) struct Report(Form<BufWriter<File>>);

enum Form<W: Write> {
    /// The original columns between the line and the reasons.
    Csv {
        writer: Box<csv::Writer<W>>,
        columns: usize,
    },
    /// One object a record; the cells of a row go by these names.
    Ndjson { writer: W, header: Vec<String> },
}

// === impl Report ===

impl Report {
    /// Makes the file; its ending says how it is written.
    ///
    /// # Errors
    /// When the ending is neither `.csv` nor `.ndjson`, or the file cannot be made.
    pub(super) fn create(path: &Path, columns: Option<&Columns>) -> Result<Self> {
        let ending = path
            .extension()
            .and_then(|it| it.to_str())
            .map(str::to_ascii_lowercase);
        let is_csv = match ending.as_deref() {
            Some("csv") => true,
            Some("ndjson" | "jsonl") => false,
            _ => bail!("its name must end in .csv or .ndjson"),
        };
        let file = BufWriter::new(private_file(path)?);
        Ok(Self(if is_csv {
            Form::csv(file, columns)?
        } else {
            Form::ndjson(file, columns)
        }))
    }

    /// Writes failures.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub(super) fn write(&mut self, failures: &[Failure]) -> Result<()> {
        failures
            .iter()
            .try_for_each(|failure| self.0.write(failure))
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(super) fn finish(mut self) -> Result<()> {
        match &mut self.0 {
            Form::Csv { writer, .. } => writer.flush()?,
            Form::Ndjson { writer, .. } => writer.flush()?,
        }
        Ok(())
    }
}

impl<W: Write> Form<W> {
    fn csv(inner: W, columns: Option<&Columns>) -> Result<Self> {
        let mut writer = Box::new(csv::Writer::from_writer(inner));
        let item = ["item".to_owned()];
        let header = columns.map_or(&item[..], Columns::header);
        let names = header.iter().map(|name| guarded(name));
        let reasons = ["codes", "messages"].map(Cow::Borrowed);
        let line = std::iter::once(Cow::Borrowed("line"));
        writer.write_record(
            line.chain(names)
                .chain(reasons)
                .map(|it| it.as_bytes().to_vec()),
        )?;
        Ok(Self::Csv {
            writer,
            columns: header.len(),
        })
    }

    fn ndjson(writer: W, columns: Option<&Columns>) -> Self {
        let header = columns.map_or(&[][..], Columns::header).to_vec();
        Self::Ndjson { writer, header }
    }

    fn write(&mut self, failure: &Failure) -> Result<()> {
        match self {
            Self::Csv { writer, columns } => csv_row(writer, *columns, failure),
            Self::Ndjson { writer, header } => ndjson_line(writer, header, failure),
        }
    }
}

fn csv_row(writer: &mut csv::Writer<impl Write>, columns: usize, failure: &Failure) -> Result<()> {
    writer.write_field(failure.line.to_string())?;
    let mut written = 0;
    match &failure.original {
        Original::Cells(row) => {
            for cell in row.iter().take(columns) {
                writer.write_field(guarded(&String::from_utf8_lossy(cell)).as_bytes())?;
                written += 1;
            }
        }
        Original::Item(json) => {
            writer.write_field(guarded(json).as_bytes())?;
            written = 1;
        }
        Original::Text(text) => {
            writer.write_field(guarded(&String::from_utf8_lossy(text)).as_bytes())?;
            written = 1;
        }
    }
    for _ in written..columns {
        writer.write_field("")?;
    }
    let (codes, messages) = reasons(&failure.why);
    writer.write_field(codes)?;
    writer.write_field(guarded(&messages).as_bytes())?;
    writer.write_record(None::<&[u8]>)?;
    Ok(())
}

fn reasons(why: &Why) -> (String, String) {
    match why {
        Why::Errors(errors) => {
            let codes: Vec<_> = errors.iter().map(|it| it.code.number.to_string()).collect();
            let messages: Vec<_> = errors.iter().map(|it| it.message.as_ref()).collect();
            (codes.join(" "), messages.join("; "))
        }
        Why::Malformed(why) => (why.slug().to_owned(), why.message().into_owned()),
    }
}

/// A cell that no spreadsheet takes for a formula.
fn guarded(cell: &str) -> Cow<'_, str> {
    if cell.starts_with(FORMULA) {
        Cow::Owned(format!("'{cell}"))
    } else {
        Cow::Borrowed(cell)
    }
}

#[derive(Serialize)]
struct Line<'a> {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cells: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    errors: Vec<Reason<'a>>,
}

#[derive(Serialize)]
struct Reason<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    slug: &'a str,
    field: &'a str,
    message: Cow<'a, str>,
}

fn ndjson_line(writer: &mut impl Write, header: &[String], failure: &Failure) -> Result<()> {
    let mut line = Line {
        line: failure.line,
        item: None,
        cells: None,
        text: None,
        errors: reason_list(&failure.why),
    };
    match &failure.original {
        Original::Item(json) => line.item = Some(serde_json::from_str(json)?),
        Original::Cells(row) => {
            let cells = row
                .iter()
                .map(|cell| Value::from(String::from_utf8_lossy(cell)));
            line.cells = Some(header.iter().cloned().zip(cells).collect());
        }
        Original::Text(text) => {
            line.text = Some(
                String::from_utf8_lossy(text)
                    .chars()
                    .take(TEXT_MAX_CHARS)
                    .collect(),
            );
        }
    }
    serde_json::to_writer(&mut *writer, &line)?;
    writer.write_all(b"\n")?;
    Ok(())
}

fn reason_list(why: &Why) -> Vec<Reason<'_>> {
    match why {
        Why::Errors(errors) => errors
            .iter()
            .map(|finding| Reason {
                code: Some(finding.code.number),
                slug: finding.code.slug,
                field: finding.code.field,
                message: Cow::Borrowed(&finding.message),
            })
            .collect(),
        Why::Malformed(why) => vec![Reason {
            code: None,
            slug: why.slug(),
            field: "record",
            message: why.message(),
        }],
    }
}

#[cfg(test)]
mod tests {
    use csv::ByteRecord;
    use ratebox_intake::Rules;

    use super::super::judge::judge;
    use super::super::source::{Raw, Record};
    use super::*;

    fn columns() -> Columns {
        Columns::new(&ByteRecord::from(vec!["phone", "Note"])).unwrap()
    }

    fn failures() -> Vec<Failure> {
        let row = |cells: Vec<&str>| Raw::Cells(ByteRecord::from(cells));
        let rows = vec![
            row(vec!["+84", "=1+1"]),
            row(vec!["1"]),
            row(vec!["1", "2", "3"]),
        ];
        let chunk = rows
            .into_iter()
            .zip(2..)
            .map(|(raw, line)| Record { line, raw });
        judge(chunk.collect(), Some(&columns()), &Rules::default(), true).failures
    }

    fn written(mut form: Form<Vec<u8>>) -> String {
        for failure in failures() {
            form.write(&failure).unwrap();
        }
        let bytes = match form {
            Form::Csv { writer, .. } => writer.into_inner().unwrap(),
            Form::Ndjson { writer, .. } => writer,
        };
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_csv_report_keeps_the_columns_and_no_cell_runs() {
        let text = written(Form::csv(Vec::new(), Some(&columns())).unwrap());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "line,phone,Note,codes,messages");
        assert_eq!(
            lines[1],
            "2,'+84,'=1+1,101 200,\"Phone number too short: 3 chars, minimum 10; Bank account is \
             required\""
        );
        assert!(lines[2].starts_with("3,1,,101 200,"), "{}", lines[2]);
        assert!(
            lines[3].starts_with("4,1,2,line.too_many_cells,"),
            "{}",
            lines[3]
        );
    }

    #[test]
    fn an_ndjson_report_has_the_same_reasons() {
        let text = written(Form::ndjson(Vec::new(), Some(&columns())));
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(
            (&first["line"], &first["cells"]["phone"]),
            (&2.into(), &"+84".into())
        );
        assert_eq!(first["errors"][1]["slug"], "bank.required");
        assert_eq!(text.lines().count(), 3);
    }
}
