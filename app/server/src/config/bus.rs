//! The bus.

use std::time::Duration;

use anyhow::{Result, ensure};
use ratebox_kit::Secret;
use ratebox_stream::{Lanes, Retention, StreamName};
use ratebox_worker::AnswerStreams;
use serde::Deserialize;

/// The bus.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BusConfig {
    /// Address of Redis or Valkey; empty = SQLite.
    pub url: Secret,
    /// File that holds the address instead.
    pub url_file: String,
    /// ACL user; empty = the one in the address.
    pub user: String,
    /// Its password; empty = the one in the address.
    pub password: Secret,
    /// File that holds the password instead.
    pub password_file: String,
    /// File of certificates that may have signed the server's.
    pub tls_ca_file: String,
    /// File of our certificate.
    pub tls_cert_file: String,
    /// File of its key.
    pub tls_key_file: String,
    /// Name that the server's certificate carries.
    pub tls_server_name: String,
    /// Sentinels, as host:port.
    pub sentinels: Vec<String>,
    /// Name that the Sentinels know the primary under.
    pub sentinel_primary: String,
    /// ACL user of the Sentinels.
    pub sentinel_user: String,
    /// Its password.
    pub sentinel_password: Secret,
    /// File that holds the password instead.
    pub sentinel_password_file: String,
    /// The address is that of a cluster's node.
    pub cluster: bool,
    /// Other nodes to ask, as host:port.
    pub cluster_nodes: Vec<String>,
    /// Stream of the requests.
    pub stream: String,
    /// Consumer group of the workers.
    pub group: String,
    /// Name of this consumer.
    pub consumer: String,
    /// Answers to everyone but importers.
    pub extension_responses: String,
    /// Answers to importers.
    pub importer_responses: String,
    /// Streams that foreign producers may name for their answers.
    pub answer_streams_allowed: Vec<String>,
    /// Entries that an answer stream keeps.
    pub answers_max: u64,
    /// Bytes that an answer stream of the embedded bus keeps, about; 0 = no limit.
    pub answers_bytes: u64,
    /// View of the dead letters.
    pub dead_letter_stream: String,
    /// Owner of what foreign producers send.
    pub foreign_owner: String,
    /// Owners wait behind themselves.
    pub fair: bool,
    /// Milliseconds to wait for a connection.
    pub connect_timeout_ms: u64,
    /// Milliseconds to wait for an answer.
    pub response_timeout_ms: u64,
    /// Days that acknowledged entries are kept.
    pub retention_days: u64,
    /// Acknowledged entries that are kept.
    pub retention_entries: u64,
    /// Bytes of a lane, about; 0 = no limit.
    pub retention_bytes: u64,
    /// Hours after which a group that nobody reads is complained of.
    pub abandoned_after_hours: u64,
    /// Such a group no longer keeps entries from being trimmed.
    pub ignore_abandoned_groups: bool,
}

impl BusConfig {
    /// The address, from the setting or its file; `None` = embedded.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn address(&self) -> Result<Option<Secret>> {
        super::store::secret("bus.url_file", &self.url, &self.url_file)
    }

    /// The password of the ACL user, from the setting or its file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn password(&self) -> Result<Secret> {
        let found = super::store::secret("bus.password_file", &self.password, &self.password_file);
        Ok(found?.unwrap_or_default())
    }

    /// The password of the Sentinels' user, from the setting or its file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn sentinel_password(&self) -> Result<Secret> {
        let (direct, file) = (&self.sentinel_password, &self.sentinel_password_file);
        let found = super::store::secret("bus.sentinel_password_file", direct, file);
        Ok(found?.unwrap_or_default())
    }

    /// Refuses settings that contradict each other.
    ///
    /// # Errors
    /// The first contradiction, with what to change.
    pub(super) fn check(&self) -> Result<()> {
        let names = [
            ("stream", &self.stream),
            ("group", &self.group),
            ("consumer", &self.consumer),
            ("extension_responses", &self.extension_responses),
            ("importer_responses", &self.importer_responses),
            ("foreign_owner", &self.foreign_owner),
        ];
        for (key, name) in names {
            ensure!(!name.is_empty(), "bus.{key} must not be empty");
        }
        let for_a_server = [
            ("user", self.user.is_empty()),
            ("password", self.password.is_empty()),
            ("password_file", self.password_file.is_empty()),
            ("tls_ca_file", self.tls_ca_file.is_empty()),
            ("tls_cert_file", self.tls_cert_file.is_empty()),
            ("tls_server_name", self.tls_server_name.is_empty()),
            ("sentinels", self.sentinels.is_empty()),
            ("cluster", !self.cluster),
        ];
        if self.url.is_empty() && self.url_file.is_empty() {
            for (key, is_unset) in for_a_server {
                ensure!(
                    is_unset,
                    "bus.{key} is set but the bus is embedded; set bus.url too, or unset it"
                );
            }
        }
        for (key, direct, file) in [
            ("url", &self.url, &self.url_file),
            ("password", &self.password, &self.password_file),
            (
                "sentinel_password",
                &self.sentinel_password,
                &self.sentinel_password_file,
            ),
        ] {
            ensure!(
                direct.is_empty() || file.is_empty(),
                "bus.{key} and bus.{key}_file are both set; unset one of them"
            );
        }
        ensure!(
            self.tls_cert_file.is_empty() == self.tls_key_file.is_empty(),
            "bus.tls_cert_file and bus.tls_key_file go together; set both or none"
        );
        ensure!(
            !self.cluster || self.sentinels.is_empty(),
            "bus.cluster and bus.sentinels exclude each other; a cluster promotes its own replicas"
        );
        ensure!(
            self.cluster || self.cluster_nodes.is_empty(),
            "bus.cluster_nodes is set but bus.cluster is not; set it to true"
        );
        ensure!(
            self.sentinels.is_empty() == self.sentinel_primary.is_empty(),
            "bus.sentinels and bus.sentinel_primary go together; set both or none"
        );
        let login = self.sentinel_user.is_empty()
            && self.sentinel_password.is_empty()
            && self.sentinel_password_file.is_empty();
        ensure!(
            login || !self.sentinels.is_empty(),
            "a user or password for Sentinels is set but bus.sentinels is empty; name them"
        );
        self.check_streams()
    }

    /// Refuses one name for two ends: what is written to one would be read from the other, and a
    /// message would feed itself. All answers may go to one stream, and there may be no view of
    /// the dead letters.
    fn check_streams(&self) -> Result<()> {
        let (lanes, letters) = (self.lanes(), self.dead_letter_stream.as_str());
        let answers = [
            ("extension_responses", self.extension_responses.as_str()),
            ("importer_responses", self.importer_responses.as_str()),
        ];
        let allowed = self.answer_streams_allowed.iter();
        let allowed = allowed.map(|name| ("answer_streams_allowed", name.as_str()));
        let answers: Vec<_> = answers.into_iter().chain(allowed).collect();
        let view = [("dead_letter_stream", letters)];
        for (key, name) in answers.iter().chain(&view) {
            ensure!(
                lanes.lane_of(name).is_none(),
                "bus.{key} ({name}) is a lane of bus.stream ({}), so that messages would feed \
                 themselves; choose another name",
                self.stream
            );
        }
        for (key, name) in answers {
            ensure!(
                name != letters || letters.is_empty(),
                "bus.{key} ({name}) is bus.dead_letter_stream, too; choose another name"
            );
        }
        Ok(())
    }

    /// The lanes of the requests.
    pub fn lanes(&self) -> Lanes {
        Lanes::of(&StreamName::new(&self.stream))
    }

    /// Every stream that the settings name: the lanes of the requests, answers, dead letters.
    pub fn streams(&self) -> Vec<StreamName> {
        let lanes = self.lanes();
        let mut streams: Vec<StreamName> = lanes.iter().map(|(_, it)| it.clone()).collect();
        let others = [
            &self.extension_responses,
            &self.importer_responses,
            &self.dead_letter_stream,
        ];
        let others = others.into_iter().chain(&self.answer_streams_allowed);
        for name in others.filter(|name| !name.is_empty()) {
            let name = StreamName::new(name);
            if !streams.contains(&name) {
                streams.push(name);
            }
        }
        streams
    }

    /// Where answers go.
    pub fn answers(&self) -> AnswerStreams {
        AnswerStreams {
            extension: self.extension_responses.clone(),
            importer: self.importer_responses.clone(),
            allowed: self.answer_streams_allowed.clone(),
        }
    }

    /// How long acknowledged entries are kept.
    pub fn retention(&self) -> Retention {
        Retention {
            max_age: Some(Duration::from_secs(self.retention_days * 86_400)),
            max_len: Some(self.retention_entries),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Sources, load};

    fn refusal(pairs: &[(&str, &str)]) -> String {
        let env = pairs
            .iter()
            .map(|(key, value)| (format!("RATEBOX_BUS__{key}"), (*value).to_owned()));
        let sources = Sources {
            env: env.collect(),
            ..Sources::default()
        };
        load(&sources)
            .err()
            .map_or_else(String::new, |error| format!("{error:#}"))
    }

    #[test]
    fn contradictions_say_what_to_change() {
        let server = ("URL", "rediss://h");
        for (pairs, hint) in [
            (vec![("CLUSTER", "true")], "set bus.url too"),
            (vec![("USER", "gateway")], "set bus.url too"),
            (vec![server, ("TLS_CERT_FILE", "c.pem")], "set both or none"),
            (vec![server, ("SENTINELS", "a:1,b:1")], "set both or none"),
            (vec![server, ("CLUSTER_NODES", "a:1")], "set it to true"),
            (vec![server, ("SENTINEL_USER", "u")], "name them"),
            (
                vec![server, ("PASSWORD", "p"), ("PASSWORD_FILE", "f")],
                "unset one",
            ),
            (
                vec![
                    server,
                    ("CLUSTER", "true"),
                    ("SENTINELS", "a"),
                    ("SENTINEL_PRIMARY", "m"),
                ],
                "exclude each other",
            ),
        ] {
            let said = refusal(&pairs);
            assert!(said.contains(hint), "{pairs:?}: {said}");
        }
        let fine = [
            server,
            ("SENTINELS", "a,b:1"),
            ("SENTINEL_PRIMARY", "m"),
            ("USER", "u"),
        ];
        assert_eq!(refusal(&fine), "");
    }

    #[test]
    fn streams_that_would_feed_themselves_are_refused() {
        let (lane, letters) = ("is a lane of bus.stream", "is bus.dead_letter_stream, too");
        for (key, name, hint) in [
            ("DEAD_LETTER_STREAM", "validation_requests", lane),
            ("DEAD_LETTER_STREAM", "{validation_requests}:low", lane),
            ("EXTENSION_RESPONSES", "validation_requests", lane),
            ("EXTENSION_RESPONSES", "{validation_requests}:high", lane),
            ("EXTENSION_RESPONSES", "validation_dlq", letters),
            ("IMPORTER_RESPONSES", "validation_requests", lane),
            ("IMPORTER_RESPONSES", "validation_dlq", letters),
            ("ANSWER_STREAMS_ALLOWED", "mine,validation_requests", lane),
            ("ANSWER_STREAMS_ALLOWED", "mine,validation_dlq", letters),
            ("STREAM", "importer_responses", lane),
        ] {
            let said = refusal(&[(key, name)]);
            assert!(said.contains(hint), "{key} = {name}: {said}");
        }
        for (key, name) in [
            ("IMPORTER_RESPONSES", "extension_responses"),
            ("ANSWER_STREAMS_ALLOWED", "mine,extension_responses"),
            ("DEAD_LETTER_STREAM", ""),
        ] {
            assert_eq!(refusal(&[(key, name)]), "", "{key} = {name}");
        }
    }
}
