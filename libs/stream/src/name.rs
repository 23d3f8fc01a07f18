//! Names: streams, groups and consumers. Parsed once, cheap to clone.

use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Takes the text as it is.
            pub fn new(name: impl AsRef<str>) -> Self {
                Self(Arc::from(name.as_ref()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $type {
            fn from(name: &str) -> Self {
                Self::new(name)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// The name of a stream: on Redis and Valkey its key.
    StreamName
}

name! {
    /// The name of a consumer group: its members share the entries of a stream.
    GroupName
}

name! {
    /// The name of one member of a group. Must be unique among running processes, because the
    /// name is what owns a pending entry.
    ConsumerName
}

impl ConsumerName {
    /// `configured` and eight random digits: two processes with the same setting, or one that was
    /// restarted, never share entries by accident.
    pub fn unique(configured: &str) -> Self {
        let boot = ratebox_kit::id::random_bytes::<4>();
        Self::new(format!("{configured}-{}", ratebox_kit::id::hex(&boot)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_of_one_setting_has_a_name_of_its_own() {
        let names: Vec<_> = (0..100).map(|_| ConsumerName::unique("worker")).collect();
        assert!(
            names
                .iter()
                .all(|name| name.as_str().starts_with("worker-"))
        );
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }
}
