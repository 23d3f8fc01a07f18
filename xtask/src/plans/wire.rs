//! Reads the fields of a protobuf message: enough for the metadata of numbering plans.

use anyhow::{Context as _, Result, bail};

/// What a field holds.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, in order.
pub(super) struct Fields<'a>(Vec<(u64, Value<'a>)>);

impl<'a> Fields<'a> {
    /// Splits a message into its fields.
    ///
    /// # Errors
    /// When the bytes end too early or hold a field that is neither number nor bytes.
    pub(super) fn read(mut bytes: &'a [u8]) -> Result<Self> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes)?;
            let value = match tag & 7 {
                0 => Value::Number(varint(&mut bytes)?),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)?)?;
                    let (value, rest) = bytes.split_at_checked(length).context("cut off")?;
                    bytes = rest;
                    Value::Bytes(value)
                }
                other => bail!("a field of wire type {other}"),
            };
            fields.push((tag >> 3, value));
        }
        Ok(Self(fields))
    }

    /// The messages of a repeated field.
    pub(super) fn messages(&self, field: u64) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter_map(move |(number, value)| match value {
                Value::Bytes(bytes) if *number == field => Some(*bytes),
                Value::Bytes(_) | Value::Number(_) => None,
            })
    }

    /// The numbers of a repeated field, packed or not.
    ///
    /// # Errors
    /// When packed numbers are cut off.
    pub(super) fn numbers(&self, field: u64) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for (_, value) in self.0.iter().filter(|(number, _)| *number == field) {
            match value {
                Value::Number(number) => numbers.push(*number),
                Value::Bytes(packed) => {
                    let mut packed = *packed;
                    while !packed.is_empty() {
                        numbers.push(varint(&mut packed)?);
                    }
                }
            }
        }
        Ok(numbers)
    }

    /// A number, if it is there.
    pub(super) fn number(&self, field: u64) -> Option<u64> {
        self.0.iter().find_map(|(number, value)| match value {
            Value::Number(value) if *number == field => Some(*value),
            Value::Bytes(_) | Value::Number(_) => None,
        })
    }

    /// Whether a flag is there and true.
    pub(super) fn is_set(&self, field: u64) -> bool {
        self.number(field).is_some_and(|value| value != 0)
    }

    /// A text, if it is there.
    ///
    /// # Errors
    /// When it is no UTF-8.
    pub(super) fn text(&self, field: u64) -> Result<Option<&'a str>> {
        let bytes = self.messages(field).next();
        Ok(bytes.map(std::str::from_utf8).transpose()?)
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().context("cut off")?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a number of more than 64 bits")
}
