//! Our values in PostgreSQL's binary format, by the type that the server expects.

use std::error::Error as StdError;

use bytes::{BufMut, Bytes, BytesMut};
use ratebox_kit::Timestamp;
use tokio_postgres::types::{FromSql, IsNull, Kind, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use crate::wire::{Cell, EPOCH_2000_US, Wire};
use crate::{Column, Rows, Value, ValueRef};

type Boxed = Box<dyn StdError + Sync + Send>;

impl ToSql for ValueRef<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        put(*self, ty, out)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        self.borrow().to_sql(ty, out)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl ToSql for Column {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        put_array(self.len(), |row| self.get(row), ty, out)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A cell that is written already.
impl ToSql for Cell<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        expect(self.wire, ty)?;
        let Some(bytes) = self.bytes() else {
            return Ok(IsNull::Yes);
        };
        out.put_slice(bytes);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// One column of rows.
#[derive(Debug)]
pub(super) struct Slice<'a> {
    pub(super) rows: &'a Rows,
    pub(super) column: usize,
}

impl ToSql for Slice<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        if self.column == 0 {
            // Room for all columns at once: a buffer that grows copies a batch four times over.
            out.reserve(self.rows.bytes() + self.rows.insert().columns().len() * ARRAY_HEAD);
        }
        let element = begin_array(self.rows.len(), ty, out)?;
        expect(self.rows.insert().wire(self.column), element)?;
        for row in 0..self.rows.len() {
            out.put_slice(self.rows.cell(row, self.column).sized);
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Refuses a column that is not of the type that its [`Insert`](crate::Insert) says.
pub(super) fn expect(wire: Wire, ty: &Type) -> Result<(), Boxed> {
    let found = Wire::of(match *ty {
        Type::BOOL => "boolean",
        Type::INT2 => "smallint",
        Type::INT4 => "int",
        Type::INT8 => "bigint",
        Type::FLOAT4 => "real",
        _ => ty.name(),
    });
    if found == wire {
        return Ok(());
    }
    Err(format!("a column is {ty}, and its insert says {wire:?}").into())
}

/// Bytes of rows that go to the server together: few enough to stay in the processor's cache.
const CHUNK: usize = 32 * 1024;

/// Rows in the format of `COPY … (FORMAT binary)`, piece by piece: a signature, each row with the
/// number of its columns, and an end mark.
pub(super) struct CopyData<'a> {
    rows: &'a Rows,
    /// The next row.
    at: usize,
    is_ended: bool,
}

impl<'a> CopyData<'a> {
    pub(super) fn new(rows: &'a Rows) -> Self {
        Self {
            rows,
            at: 0,
            is_ended: false,
        }
    }

    fn chunk(&mut self) -> Result<Bytes, Boxed> {
        let mut out = BytesMut::with_capacity(CHUNK + CHUNK / 4);
        if self.at == 0 {
            out.put_slice(b"PGCOPY\n\xff\r\n\0");
            out.put_i32(0); // No flags.
            out.put_i32(0); // No extension of the header.
        }
        let columns = i16::try_from(self.rows.insert().columns().len())?;
        while self.at < self.rows.len() && out.len() < CHUNK {
            let [own, alike] = self.rows.row(self.at);
            out.put_i16(columns);
            out.put_slice(own);
            out.put_slice(alike);
            self.at += 1;
        }
        if self.at >= self.rows.len() {
            out.put_i16(-1);
            self.is_ended = true;
        }
        Ok(out.freeze())
    }
}

impl Iterator for CopyData<'_> {
    type Item = Result<Bytes, Boxed>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.is_ended).then(|| self.chunk())
    }
}

/// Bytes before the elements of an array.
const ARRAY_HEAD: usize = 5 * 4;

/// One-dimensional array: dimensions, null flag, element type, length, lower bound; its elements
/// follow, each after its length.
fn begin_array<'a>(length: usize, ty: &'a Type, out: &mut BytesMut) -> Result<&'a Type, Boxed> {
    let Kind::Array(element) = ty.kind() else {
        return Err(format!("a column needs an array parameter, not {ty}").into());
    };
    out.put_i32(1);
    out.put_i32(1);
    out.put_u32(element.oid());
    out.put_i32(i32::try_from(length)?);
    out.put_i32(1);
    Ok(element)
}

fn put_array<'a>(
    length: usize,
    item: impl Fn(usize) -> ValueRef<'a>,
    ty: &Type,
    out: &mut BytesMut,
) -> Result<IsNull, Boxed> {
    let element = begin_array(length, ty, out)?;
    for index in 0..length {
        put_sized(item(index), element, out)?;
    }
    Ok(IsNull::No)
}

fn put(value: ValueRef<'_>, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
    match value {
        ValueRef::Null => return Ok(IsNull::Yes),
        ValueRef::Bool(it) => out.put_u8(u8::from(it)),
        ValueRef::Int(it) => put_int(it, ty, out)?,
        ValueRef::Float(it) => put_float(it, ty, out),
        ValueRef::Text(it) | ValueRef::Json(it) => put_text(it.as_bytes(), ty, out),
        ValueRef::Bytes(it) => out.put_slice(it),
        ValueRef::Uuid(it) => out.put_slice(it.as_bytes()),
        ValueRef::Time(it) => out.put_i64(it - EPOCH_2000_US),
    }
    Ok(IsNull::No)
}

/// A value after its length; -1 stands for `NULL`.
fn put_sized(value: ValueRef<'_>, ty: &Type, out: &mut BytesMut) -> Result<(), Boxed> {
    let start = out.len();
    out.put_i32(-1);
    if let IsNull::No = put(value, ty, out)? {
        let length = i32::try_from(out.len() - start - 4)?;
        let slot = out.get_mut(start..start + 4).ok_or("the buffer shrank")?;
        slot.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

fn put_int(value: i64, ty: &Type, out: &mut BytesMut) -> Result<(), Boxed> {
    match *ty {
        Type::INT2 => out.put_i16(i16::try_from(value)?),
        Type::INT4 => out.put_i32(i32::try_from(value)?),
        #[expect(
            clippy::cast_precision_loss,
            reason = "the column holds floating point numbers"
        )]
        Type::FLOAT8 => out.put_f64(value as f64),
        _ => out.put_i64(value),
    }
    Ok(())
}

fn put_float(value: f64, ty: &Type, out: &mut BytesMut) {
    match *ty {
        #[expect(clippy::cast_possible_truncation, reason = "the column is narrower")]
        Type::FLOAT4 => out.put_f32(value as f32),
        _ => out.put_f64(value),
    }
}

fn put_text(value: &[u8], ty: &Type, out: &mut BytesMut) {
    if *ty == Type::JSONB {
        out.put_u8(1); // The format's version.
    }
    out.put_slice(value);
}

/// What is none of our values stays the bytes that the server sent, so that nobody takes them for a
/// text, a number or a time: [`crate::Row::get`] says that the column is of another type.
impl<'a> FromSql<'a> for Value {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Boxed> {
        Ok(match *ty {
            Type::BOOL => Self::Bool(bool::from_sql(ty, raw)?),
            Type::INT2 => Self::Int(i16::from_sql(ty, raw)?.into()),
            Type::INT4 => Self::Int(i32::from_sql(ty, raw)?.into()),
            Type::INT8 => Self::Int(i64::from_sql(ty, raw)?),
            Type::FLOAT4 => Self::Float(f32::from_sql(ty, raw)?.into()),
            Type::FLOAT8 => Self::Float(f64::from_sql(ty, raw)?),
            Type::UUID => Self::Uuid(Uuid::from_slice(raw)?),
            Type::TIMESTAMPTZ => {
                let us = i64::from_be_bytes(raw.try_into()?).saturating_add(EPOCH_2000_US);
                // Infinity, or a year that has five digits.
                Timestamp::from_microsecond(us).map_or_else(|_| unread(raw), Self::Time)
            }
            Type::JSON => text(raw, Self::Json),
            Type::JSONB => text(raw.get(1..).unwrap_or_default(), Self::Json),
            _ if is_text(ty) => text(raw, Self::Text),
            _ => unread(raw),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Boxed> {
        Ok(Self::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A database whose encoding is `SQL_ASCII` may send what is not UTF-8.
fn text(raw: &[u8], kind: fn(String) -> Value) -> Value {
    match std::str::from_utf8(raw) {
        Ok(it) => kind(it.to_owned()),
        Err(_) => unread(raw),
    }
}

fn unread(raw: &[u8]) -> Value {
    Value::Bytes(raw.to_vec().into())
}

/// Whether the server sends the values of a type as people read them.
fn is_text(ty: &Type) -> bool {
    let is_plain = matches!(
        *ty,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN | Type::XML
    );
    // A type of an extension has no number that is known beforehand.
    is_plain
        || matches!(ty.kind(), Kind::Enum(_))
        || (ty.name() == "citext" && *ty.kind() == Kind::Simple)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(name: &str, kind: Kind) -> Type {
        Type::new(name.to_owned(), 70_000, kind, "public".to_owned())
    }

    #[test]
    fn what_is_a_text_on_the_wire_is_read_as_one() {
        for ty in [
            Type::TEXT,
            Type::VARCHAR,
            Type::BPCHAR,
            Type::NAME,
            Type::UNKNOWN,
            Type::XML,
            other("citext", Kind::Simple),
            other("mood", Kind::Enum(vec!["calm".to_owned()])),
        ] {
            let read = Value::from_sql(&ty, b"calm").unwrap();
            assert_eq!(read, Value::Text("calm".to_owned()), "{ty}");
            let broken = Value::from_sql(&ty, &[0xff]).unwrap();
            assert_eq!(broken, unread(&[0xff]), "{ty}");
        }
    }

    #[test]
    fn what_is_not_is_none_however_much_its_bytes_look_like_one() {
        for ty in [
            Type::DATE,
            Type::TIME,
            Type::TIMESTAMP,
            Type::INTERVAL,
            Type::NUMERIC,
            Type::MONEY,
            Type::INET,
            Type::OID,
            Type::CHAR,
            Type::TEXT_ARRAY,
            Type::INT4_RANGE,
            Type::BYTEA,
            other("citext", Kind::Composite(Vec::new())),
            other("hstore", Kind::Simple),
        ] {
            let read = Value::from_sql(&ty, b"calm").unwrap();
            assert_eq!(read, unread(b"calm"), "{ty}");
            assert_eq!(Value::from_sql_null(&ty).unwrap(), Value::Null, "{ty}");
        }
    }

    #[test]
    fn a_time_without_end_is_no_time() {
        let ty = Type::TIMESTAMPTZ;
        for us in [i64::MIN, i64::MAX] {
            let raw = us.to_be_bytes();
            assert_eq!(Value::from_sql(&ty, &raw).unwrap(), unread(&raw));
        }
        let start = Value::from_sql(&ty, &(-EPOCH_2000_US).to_be_bytes()).unwrap();
        assert_eq!(start, Value::Time(Timestamp::UNIX_EPOCH));
    }
}
