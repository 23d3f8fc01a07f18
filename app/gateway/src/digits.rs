//! Numbers in the texts that every answer carries. `format!` would cost more than the rest of the
//! header.

/// Appends a number in decimal.
pub(crate) fn push(text: &mut String, number: u64) {
    let mut digits = [0; 20];
    let (mut at, mut left) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    text.extend(digits[at..].iter().map(|digit| char::from(*digit)));
}

#[cfg(test)]
mod tests {
    use super::push;

    #[test]
    fn numbers_of_any_length_are_written() {
        for number in [0, 7, 10, 1_700_000_000_000, u64::MAX] {
            let mut text = "n=".to_owned();
            push(&mut text, number);
            assert_eq!(text, format!("n={number}"));
        }
    }
}
