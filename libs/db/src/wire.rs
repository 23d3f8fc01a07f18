//! One cell of a new row as PostgreSQL's binary format has it: four bytes of length (-1 for `NULL`),
//! then the value. `COPY`, arrays and single parameters all have this form in common, so a value is
//! written once, where it is known, and copied as a whole from there on.

use uuid::Uuid;

use crate::ValueRef;

/// 2000-01-01 in microseconds since 1970: PostgreSQL counts from there.
pub(crate) const EPOCH_2000_US: i64 = 946_684_800_000_000;

/// The length of what is not there.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// The version of `jsonb`'s format, which comes before its text.
const JSONB_VERSION: u8 = 1;

/// How the values of a column lie in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// UTF-8; `json` as well.
    Text,
    Jsonb,
    Bytes,
    Uuid,
    Time,
}

/// A value that its column cannot hold: of another type, or beyond its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Misfit;

/// A cell that was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell<'a> {
    pub(crate) wire: Wire,
    /// Length and value.
    pub(crate) sized: &'a [u8],
}

// === impl Wire ===

impl Wire {
    /// By the name that an [`Insert`](crate::Insert) gives its column's type.
    pub(crate) fn of(name: &str) -> Self {
        match name {
            "boolean" => Self::Bool,
            "smallint" => Self::Int2,
            "int" => Self::Int4,
            "bigint" => Self::Int8,
            "real" => Self::Float4,
            "float8" => Self::Float8,
            "jsonb" => Self::Jsonb,
            "bytea" => Self::Bytes,
            "uuid" => Self::Uuid,
            "timestamptz" => Self::Time,
            _ => Self::Text,
        }
    }

    /// Writes a cell.
    pub(crate) fn put(self, value: ValueRef<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        match (value, self) {
            (ValueRef::Null, _) => out.extend_from_slice(&NULL),
            (ValueRef::Text(it) | ValueRef::Json(it), Self::Text) => sized(it.as_bytes(), out)?,
            (ValueRef::Text(it) | ValueRef::Json(it), Self::Jsonb) => {
                let length = i32::try_from(it.len() + 1).map_err(|_| Misfit)?;
                out.extend_from_slice(&length.to_be_bytes());
                out.push(JSONB_VERSION);
                out.extend_from_slice(it.as_bytes());
            }
            (ValueRef::Uuid(it), Self::Uuid) => fixed(*it.as_bytes(), out),
            (ValueRef::Time(it), Self::Time) => fixed((it - EPOCH_2000_US).to_be_bytes(), out),
            (ValueRef::Int(it), _) => self.put_int(it, out)?,
            (ValueRef::Bool(it), Self::Bool) => fixed([u8::from(it)], out),
            (ValueRef::Float(it), _) => self.put_float(it, out)?,
            (ValueRef::Bytes(it), Self::Bytes) => sized(it, out)?,
            _ => return Err(Misfit),
        }
        Ok(())
    }

    fn put_int(self, it: i64, out: &mut Vec<u8>) -> Result<(), Misfit> {
        match self {
            Self::Int2 => fixed(i16::try_from(it).map_err(|_| Misfit)?.to_be_bytes(), out),
            Self::Int4 => fixed(i32::try_from(it).map_err(|_| Misfit)?.to_be_bytes(), out),
            Self::Int8 => fixed(it.to_be_bytes(), out),
            #[expect(
                clippy::cast_precision_loss,
                reason = "the column holds floating point numbers"
            )]
            Self::Float4 | Self::Float8 => self.put_float(it as f64, out)?,
            _ => return Err(Misfit),
        }
        Ok(())
    }

    fn put_float(self, it: f64, out: &mut Vec<u8>) -> Result<(), Misfit> {
        match self {
            #[expect(clippy::cast_possible_truncation, reason = "the column is narrower")]
            Self::Float4 => fixed((it as f32).to_be_bytes(), out),
            Self::Float8 => fixed(it.to_be_bytes(), out),
            _ => return Err(Misfit),
        }
        Ok(())
    }
}

fn fixed<const N: usize>(bytes: [u8; N], out: &mut Vec<u8>) {
    #[expect(clippy::cast_possible_truncation, reason = "at most 16")]
    out.extend_from_slice(&(N as u32).to_be_bytes());
    out.extend_from_slice(&bytes);
}

fn sized(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
    let length = i32::try_from(bytes.len()).map_err(|_| Misfit)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

// === impl Cell ===

impl<'a> Cell<'a> {
    /// The value alone; `None` = `NULL`.
    pub(crate) fn bytes(self) -> Option<&'a [u8]> {
        let (length, bytes) = self.sized.split_at_checked(NULL.len())?;
        (length != NULL).then_some(bytes)
    }

    /// The value as it was.
    pub(crate) fn value(self) -> ValueRef<'a> {
        self.bytes()
            .and_then(|bytes| self.read(bytes))
            .unwrap_or(ValueRef::Null)
    }

    fn read(self, bytes: &'a [u8]) -> Option<ValueRef<'a>> {
        Some(match self.wire {
            Wire::Bool => ValueRef::Bool(array(bytes)? != [0]),
            Wire::Int2 => ValueRef::Int(i16::from_be_bytes(array(bytes)?).into()),
            Wire::Int4 => ValueRef::Int(i32::from_be_bytes(array(bytes)?).into()),
            Wire::Int8 => ValueRef::Int(i64::from_be_bytes(array(bytes)?)),
            Wire::Float4 => ValueRef::Float(widened(f32::from_be_bytes(array(bytes)?))),
            Wire::Float8 => ValueRef::Float(f64::from_be_bytes(array(bytes)?)),
            Wire::Text => ValueRef::Text(std::str::from_utf8(bytes).ok()?),
            Wire::Jsonb => ValueRef::Json(std::str::from_utf8(bytes.get(1..)?).ok()?),
            Wire::Bytes => ValueRef::Bytes(bytes),
            Wire::Uuid => ValueRef::Uuid(Uuid::from_bytes(array(bytes)?)),
            Wire::Time => ValueRef::Time(i64::from_be_bytes(array(bytes)?) + EPOCH_2000_US),
        })
    }
}

fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

/// The number that a person means by it: 0.95 and not 0.949999988.
fn widened(it: f32) -> f64 {
    it.to_string().parse().unwrap_or(f64::from(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_column_cannot_hold_is_refused() {
        let mut out = Vec::new();
        for (wire, value) in [
            (Wire::Int2, ValueRef::Int(32_768)),
            (Wire::Int4, ValueRef::Int(1 << 31)),
            (Wire::Uuid, ValueRef::Text("x")),
            (Wire::Text, ValueRef::Bytes(b"x")),
            (Wire::Text, ValueRef::Int(1)),
            (Wire::Bool, ValueRef::Float(1.0)),
        ] {
            assert_eq!(wire.put(value, &mut out), Err(Misfit), "{wire:?}");
        }
        assert!(out.is_empty());
    }

    #[test]
    fn a_narrow_number_comes_back_as_it_is_written() {
        let mut out = Vec::new();
        Wire::Float4.put(ValueRef::Float(0.95), &mut out).unwrap();
        let cell = Cell {
            wire: Wire::Float4,
            sized: &out,
        };
        assert_eq!(cell.value(), ValueRef::Float(0.95));
    }
}
