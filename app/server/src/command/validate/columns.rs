//! The columns of a CSV file: which of them the rules know, and a row as the JSON of an item.

use anyhow::{Result, ensure};
use csv::ByteRecord;

use super::judge::Malformed;

/// Names under which the known fields go in files of the field.
const ALIASES: [(&str, &[&str]); 4] = [
    ("name", &["full_name", "fullname", "ho_ten", "họ_tên"]),
    (
        "phone",
        &[
            "phone_number",
            "phonenumber",
            "mobile",
            "tel",
            "telephone",
            "sdt",
            "sđt",
        ],
    ),
    (
        "bank_account",
        &[
            "bankaccount",
            "bank_account_number",
            "account_number",
            "account",
            "iban",
            "stk",
        ],
    ),
    ("email", &["e_mail", "mail", "email_address"]),
];

/// Fields that are known by this name only.
const EXACT: [&str; 3] = ["bank", "bank_name", "bank_code"];

/// The header of a CSV file.
#[derive(Debug)]
pub(super) struct Columns {
    /// As written in the file.
    header: Vec<String>,
    /// `"field":` for each column.
    keys: Vec<String>,
}

impl Columns {
    /// Reads a header.
    ///
    /// # Errors
    /// When it names none of the fields that are judged, which means that it is no header, or one of
    /// them twice.
    pub(super) fn new(header: &ByteRecord) -> Result<Self> {
        let texts = header
            .iter()
            .map(|cell| String::from_utf8_lossy(cell).trim().to_owned());
        let header: Vec<String> = texts.collect();
        let fields = fields(&header);
        let known = fields
            .iter()
            .any(|field| ALIASES.iter().any(|(name, _)| name == field));
        ensure!(
            known,
            "the first line names none of the columns name, phone, bank_account, email: a CSV \
             file needs a header"
        );
        for field in ALIASES.iter().map(|(name, _)| *name).chain(EXACT) {
            ensure!(
                fields.iter().filter(|it| *it == field).count() < 2,
                "the first line names the column {field} twice: nobody knows which one is meant"
            );
        }
        let keys = fields
            .iter()
            .map(|field| serde_json::json!(field).to_string() + ":")
            .collect();
        Ok(Self { header, keys })
    }

    /// The names as written in the file.
    pub(super) fn header(&self) -> &[String] {
        &self.header
    }

    /// Writes a row as the JSON of an item into `json`; empty cells are absent.
    pub(super) fn item(&self, row: &ByteRecord, json: &mut Vec<u8>) -> Result<(), Malformed> {
        if row.len() > self.keys.len() {
            return Err(Malformed::TooManyCells);
        }
        json.clear();
        json.push(b'{');
        for (key, cell) in self
            .keys
            .iter()
            .zip(row)
            .filter(|(_, cell)| !cell.is_empty())
        {
            let text = std::str::from_utf8(cell).map_err(|_| Malformed::NotUtf8)?;
            if json.len() > 1 {
                json.push(b',');
            }
            json.extend_from_slice(key.as_bytes());
            serde_json::to_writer(&mut *json, text).expect("strings are always written to memory");
        }
        json.push(b'}');
        Ok(())
    }
}

/// The field of each column. A field's own name wins over its aliases, the first alias over the
/// next; what is left keeps its name.
fn fields(header: &[String]) -> Vec<String> {
    let plain: Vec<String> = header.iter().map(|name| plain(name)).collect();
    let mut fields = header.to_vec();
    for (column, name) in plain.iter().enumerate() {
        let known = ALIASES.iter().map(|(name, _)| *name).chain(EXACT);
        if let Some(known) = known.into_iter().find(|known| known == name)
            && !fields.iter().take(column).any(|field| field == known)
        {
            known.clone_into(&mut fields[column]);
        }
    }
    for (field, aliases) in ALIASES {
        if fields.iter().any(|it| it == field) {
            continue;
        }
        let alias = aliases
            .iter()
            .find_map(|it| plain.iter().position(|name| name == it));
        if let Some(column) = alias {
            field.clone_into(&mut fields[column]);
        }
    }
    fields
}

/// Lower case, with one underscore for whatever separates words.
fn plain(name: &str) -> String {
    let words = name.split(|c: char| c.is_whitespace() || matches!(c, '_' | '-' | '.'));
    let words: Vec<String> = words
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(header: &[&str], row: &[&str]) -> String {
        let columns = Columns::new(&ByteRecord::from(header.to_vec())).unwrap();
        let mut json = Vec::new();
        columns
            .item(&ByteRecord::from(row.to_vec()), &mut json)
            .unwrap();
        String::from_utf8(json).unwrap()
    }

    #[test]
    fn known_columns_are_found_whatever_their_case_and_the_rest_is_kept() {
        assert_eq!(
            item(&["Full Name", "PHONE", "Note"], &["An \"A\"", "0912", "x"]),
            r#"{"name":"An \"A\"","phone":"0912","Note":"x"}"#
        );
    }

    #[test]
    fn a_field_s_own_name_wins_over_an_alias() {
        assert_eq!(
            item(&["mobile", "phone", "Tel"], &["1", "2", "3"]),
            r#"{"mobile":"1","phone":"2","Tel":"3"}"#
        );
    }

    #[test]
    fn a_known_column_that_is_named_twice_is_refused() {
        for twice in [["phone", "phone"], ["bank_code", "bank_code"]] {
            let header = ByteRecord::from([&["name"], &twice[..]].concat());
            let error = Columns::new(&header).unwrap_err();
            assert!(error.to_string().contains(twice[0]), "{error}");
        }
        assert_eq!(
            item(&["phone", "Phone", "x", "x"], &["1", "2", "3", "4"]),
            r#"{"phone":"1","Phone":"2","x":"3","x":"4"}"#
        );
    }

    #[test]
    fn empty_and_missing_cells_are_absent() {
        assert_eq!(
            item(&["name", "phone", "email"], &["", "09"]),
            r#"{"phone":"09"}"#
        );
        assert_eq!(item(&["name", "phone"], &[""]), "{}");
    }

    #[test]
    fn rows_that_do_not_fit_are_malformed() {
        let columns = Columns::new(&ByteRecord::from(vec!["phone"])).unwrap();
        let mut json = Vec::new();
        let long = columns.item(&ByteRecord::from(vec!["1", "2"]), &mut json);
        assert_eq!(long, Err(Malformed::TooManyCells));
        let bytes = columns.item(&ByteRecord::from(vec![&b"\xff"[..]]), &mut json);
        assert_eq!(bytes, Err(Malformed::NotUtf8));
    }

    #[test]
    fn a_first_line_without_known_names_is_refused() {
        assert!(Columns::new(&ByteRecord::from(vec!["0912345678", "An"])).is_err());
    }
}
