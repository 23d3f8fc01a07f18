//! Brokers of one's own: RabbitMQ, NATS with JetStream, and Tansu, which speaks Kafka's protocol.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::process::{Ending, Process};
use crate::wait::block_until;
use crate::{TempDir, free_port, tools};

/// Time to answer after a start; the Erlang machine of RabbitMQ needs 5 s on two idle cores.
const START_DEADLINE: Duration = Duration::from_secs(90);

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerKind {
    /// RabbitMQ.
    Rabbitmq,
    /// NATS, with JetStream on disk.
    Nats,
    /// Tansu: Kafka's protocol, messages in memory.
    Kafka,
}

/// A running broker on a loopback port of its own; gone on drop, with its data.
#[derive(Debug)]
pub struct BrokerServer {
    kind: BrokerKind,
    port: u16,
    other_ports: (u16, u16),
    process: Option<Process>,
    /// The port mapper that RabbitMQ asks for its own address.
    mapper: Option<Process>,
    folder: TempDir,
}

impl BrokerServer {
    /// Starts a broker and waits until it takes connections.
    ///
    /// # Errors
    /// When its program is missing (the message says what to install) or does not answer.
    pub fn start(kind: BrokerKind) -> Result<Self> {
        let mut server = Self {
            kind,
            port: free_port(),
            other_ports: (free_port(), free_port()),
            process: None,
            mapper: None,
            folder: TempDir::new()?,
        };
        server.restart()?;
        Ok(server)
    }

    /// Starts it again on its port, with its data as far as they are on disk.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn restart(&mut self) -> Result<()> {
        let mut command = self.command()?;
        let log = self.folder.join("broker.log");
        let _ = std::fs::remove_file(&log);
        let ending = Ending {
            signal: "KILL",
            remove: None,
        };
        self.process = Some(Process::spawn(&mut command, &log, ending)?);
        let ready = match self.kind {
            BrokerKind::Rabbitmq => "Server startup complete",
            BrokerKind::Nats => "Server is ready",
            BrokerKind::Kafka => "ready in",
        };
        if !block_until(START_DEADLINE, || self.logs().contains(ready)) {
            bail!("the broker does not start:\n{}", self.logs());
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Command> {
        let port = self.port.to_string();
        let address = format!("tcp://127.0.0.1:{port}");
        let folder = self.folder.path().to_path_buf();
        match self.kind {
            BrokerKind::Rabbitmq => self.rabbitmq(&folder),
            BrokerKind::Nats => {
                let mut command = Command::new(tools::nats_server()?);
                command.args(["--addr", "127.0.0.1", "--port", &port, "--jetstream"]);
                command.arg("--store_dir").arg(folder.join("data"));
                Ok(command)
            }
            BrokerKind::Kafka => {
                let mut command = Command::new(tools::tansu()?);
                command.args(["broker", "--cluster-id", "test", "--listener-url", &address]);
                command.args(["--advertised-listener-url", &address]);
                command.args(["--storage-engine", "memory://tansu/"]);
                Ok(command)
            }
        }
    }

    /// The server, and a port mapper of its own, so that none stays behind.
    fn rabbitmq(&mut self, folder: &Path) -> Result<Command> {
        let (mapper_port, link_port) = self.other_ports;
        let mapper_port = mapper_port.to_string();
        let own = [
            ("ERL_EPMD_PORT", mapper_port.as_str()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1"),
        ];
        if self.mapper.is_none() {
            let mut mapper = Command::new("epmd");
            let ending = Ending {
                signal: "KILL",
                remove: None,
            };
            let log = folder.join("epmd.log");
            self.mapper = Some(Process::spawn(mapper.envs(own), &log, ending)?);
        }
        let mut command = Command::new(tools::rabbitmq_server()?);
        command.envs(own).env("HOME", folder);
        let node = format!("ratebox{}@localhost", self.port);
        for (name, value) in [
            ("NODENAME", node.as_str()),
            ("NODE_IP_ADDRESS", "127.0.0.1"),
            ("NODE_PORT", &self.port.to_string()),
            ("DIST_PORT", &link_port.to_string()),
            ("LOGS", "-"),
            // The script becomes the server, instead of waiting beside it.
            ("ALLOW_INPUT", "1"),
            (
                "SERVER_ADDITIONAL_ERL_ARGS",
                "-noinput +S 1:1 +sbwt none -rabbit max_message_size 1000000",
            ),
        ] {
            command.env(format!("RABBITMQ_{name}"), value);
        }
        for (name, file) in [
            ("MNESIA_BASE", "data"),
            ("LOG_BASE", "logs"),
            ("CONFIG_FILE", "none"),
            ("ENABLED_PLUGINS_FILE", "plugins"),
        ] {
            command.env(format!("RABBITMQ_{name}"), folder.join(file));
        }
        Ok(command)
    }

    /// Its address: `amqp://…`, `nats://…`, or `host:port` of the Kafka bootstrap.
    pub fn url(&self) -> String {
        let port = self.port;
        match self.kind {
            BrokerKind::Rabbitmq => format!("amqp://guest:guest@127.0.0.1:{port}/%2f"),
            BrokerKind::Nats => format!("nats://127.0.0.1:{port}"),
            BrokerKind::Kafka => format!("127.0.0.1:{port}"),
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes a topic of three partitions (Kafka only).
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn create_topic(&self, name: &str) -> Result<()> {
        let broker = format!("tcp://{}", self.url());
        let mut command = Command::new(tools::tansu()?);
        let output = command
            .args(["topic", "create", "--broker", &broker, name])
            .output()
            .context("could not make a topic")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Kills it with -9; [`BrokerServer::restart`] brings it back.
    pub fn kill9(&mut self) {
        self.process = None;
    }

    /// What it wrote since its start.
    pub fn logs(&self) -> String {
        self.process.as_ref().map(Process::logs).unwrap_or_default()
    }
}
