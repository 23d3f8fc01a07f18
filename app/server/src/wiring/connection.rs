//! From the settings of the bus to a connection: user, certificates, Sentinels, cluster.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratebox_kit::Secret;
use ratebox_valkey::{
    Address, ClientCertificate, Login, PORT, SENTINEL_PORT, Sentinels, ServerInfo, Settings, Tls,
    Topology,
};

use crate::config::{BusConfig, Config};

/// How to reach a bus that is a server.
///
/// # Errors
/// When a file cannot be read or an address is none.
pub(super) fn settings(config: &Config, url: &Secret) -> Result<Settings> {
    let bus = &config.bus;
    let login = Login {
        user: bus.user.clone(),
        password: bus.password()?,
    };
    Ok(Settings {
        login,
        tls: tls(bus)?,
        topology: topology(bus)?,
        connect_timeout: Duration::from_millis(bus.connect_timeout_ms),
        response_timeout: Duration::from_millis(bus.response_timeout_ms),
        ..Settings::new(url.reveal())
    })
}

/// Refuses a cluster that the settings do not know as one, and the other way round: commands would
/// fail by and by, on the first key that lies elsewhere.
///
/// # Errors
/// With what to change.
pub(super) fn check_topology(config: &Config, info: &ServerInfo) -> Result<()> {
    ensure!(
        config.bus.cluster || !info.cluster_enabled,
        "the bus is a node of a cluster; set bus.cluster to true"
    );
    ensure!(
        info.cluster_enabled || !config.bus.cluster,
        "bus.cluster is true but the server is no node of a cluster; set it to false"
    );
    Ok(())
}

fn tls(bus: &BusConfig) -> Result<Tls> {
    let client = match pem("bus.tls_cert_file", &bus.tls_cert_file)? {
        Some(certificate) => Some(ClientCertificate {
            certificate,
            key: pem("bus.tls_key_file", &bus.tls_key_file)?
                .map(Secret::new)
                .unwrap_or_default(),
        }),
        None => None,
    };
    Ok(Tls {
        ca: pem("bus.tls_ca_file", &bus.tls_ca_file)?,
        client,
        server_name: Some(bus.tls_server_name.clone()).filter(|name| !name.is_empty()),
    })
}

fn topology(bus: &BusConfig) -> Result<Topology> {
    if bus.cluster {
        let nodes = addresses("bus.cluster_nodes", &bus.cluster_nodes, PORT)?;
        return Ok(Topology::Cluster(nodes));
    }
    if bus.sentinels.is_empty() {
        return Ok(Topology::Single);
    }
    Ok(Topology::Sentinel(Sentinels {
        primary: bus.sentinel_primary.clone(),
        addresses: addresses("bus.sentinels", &bus.sentinels, SENTINEL_PORT)?,
        login: Login {
            user: bus.sentinel_user.clone(),
            password: bus.sentinel_password()?,
        },
    }))
}

pub(super) fn addresses(
    key: &'static str,
    texts: &[String],
    port_default: u16,
) -> Result<Vec<Address>> {
    let read = texts.iter().map(|text| Address::parse(text, port_default));
    read.collect::<Result<_, _>>().context(key)
}

pub(super) fn pem(key: &str, file: &str) -> Result<Option<String>> {
    if file.is_empty() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("{key} names {file}, which cannot be read"))?;
    Ok(Some(text))
}
