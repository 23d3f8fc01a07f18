//! How many files and connections this process may have open at once.

/// Raises the limit to `wanted`, as far as the system lets a process do so by itself; never lowers it.
/// Answers the limit that holds then; `None` where there is none, or the system is not asked.
#[cfg(target_os = "linux")]
pub fn allow(wanted: u64) -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let soft = limit.current?;
    let reach = limit.maximum.map_or(wanted, |hard| hard.min(wanted));
    if reach <= soft {
        return Some(soft);
    }
    let raised = Rlimit {
        current: Some(reach),
        ..limit
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => Some(reach),
        Err(_) => Some(soft),
    }
}

/// The same where nobody is asked.
#[cfg(not(target_os = "linux"))]
pub fn allow(_wanted: u64) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_grows_as_far_as_it_may_and_what_is_told_holds() {
        let Some(before) = allow(0) else {
            return;
        };
        let after = allow(before + 1).unwrap();
        assert!(after == before || after == before + 1, "{before}, {after}");
        assert_eq!(allow(0), Some(after));
        assert_eq!(allow(1), Some(after), "it is never lowered");
    }
}
