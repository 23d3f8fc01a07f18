//! `GET /calc/heavy`: one request asks for the same costly value three times and computes it once.

use std::collections::HashMap;

use axum::http::Uri;

use crate::params::Params;
use crate::problem::{Problem, Response, json};

/// Three times the Fibonacci number of 90 is the last that fits 63 bits.
const N_MAX: u32 = 90;

/// Results of one request.
#[derive(Default)]
struct Memo {
    known: HashMap<u32, u64>,
    computed: u32,
}

// === impl Memo ===

impl Memo {
    fn fibonacci(&mut self, n: u32) -> u64 {
        if let Some(known) = self.known.get(&n) {
            return *known;
        }
        self.computed += 1;
        let value = match n {
            0 => 0,
            1 => 1,
            n => self.fibonacci(n - 1) + self.fibonacci(n - 2),
        };
        self.known.insert(n, value);
        value
    }
}

/// The sum of three times the same number, and how many steps it took.
///
/// # Errors
/// 422 for an `n` above 90.
pub(crate) fn sum(uri: &Uri) -> Result<Response, Problem> {
    let mut params = Params::of(uri)?;
    let n = params.number("n", 0..=N_MAX, 3)?;
    params.finish()?;
    let mut memo = Memo::default();
    let sum: u64 = (0..3).map(|_| memo.fibonacci(n)).sum();
    Ok(json(format!(
        "{{\"sum\":{sum},\"computed\":{}}}",
        memo.computed
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_computed_once_a_request() {
        let mut memo = Memo::default();
        let sum: u64 = (0..3).map(|_| memo.fibonacci(N_MAX)).sum();
        assert_eq!(sum, 3 * 2_880_067_194_370_816_120);
        assert!(i64::try_from(sum).is_ok());
        assert_eq!(memo.computed, N_MAX + 1);
    }
}
