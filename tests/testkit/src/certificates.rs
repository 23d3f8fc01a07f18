//! Certificates that live as long as a test: a CA, a server's and a client's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{TempDir, tools};

/// A CA, a server's certificate and a client's, in PEM, in a folder of their own.
#[derive(Debug)]
pub struct Certificates {
    folder: TempDir,
}

// === impl Certificates ===

impl Certificates {
    /// Makes them. `names` are those that the server's certificate carries, as OpenSSL writes
    /// them: `DNS:localhost,IP:127.0.0.1`.
    ///
    /// # Errors
    /// When `openssl` is missing (the message says what to install) or fails.
    pub fn new(names: &str) -> Result<Self> {
        let folder = TempDir::new()?;
        let config = format!(
            "[req]\ndistinguished_name=dn\n[dn]\n\
             [ca]\nbasicConstraints=critical,CA:TRUE\n\
             [server]\nbasicConstraints=CA:FALSE\nsubjectAltName={names}\n\
             [client]\nbasicConstraints=CA:FALSE\n"
        );
        std::fs::write(folder.join("openssl.cnf"), config)?;
        sign(&folder, "ca", &[])?;
        let by_ca = ["-CA", "ca.pem", "-CAkey", "ca.key"];
        sign(&folder, "server", &by_ca)?;
        sign(&folder, "client", &by_ca)?;
        Ok(Self { folder })
    }

    /// The file `ca.pem`, `server.pem`, `server.key`, `client.pem` or `client.key`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What stands in such a file.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn pem(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("the files were made with the value")
    }
}

fn sign(folder: &TempDir, who: &str, by: &[&str]) -> Result<()> {
    let (key, pem) = (format!("{who}.key"), format!("{who}.pem"));
    let output = Command::new(tools::openssl()?)
        .current_dir(folder.path())
        .args(["req", "-config", "openssl.cnf", "-x509", "-newkey", "ec"])
        .args([
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", &format!("/CN=ratebox-{who}"), "-extensions", who])
        .args(["-keyout", &key, "-out", &pem])
        .args(by)
        .output()?;
    if !output.status.success() || !Path::new(&folder.join(&pem)).is_file() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("openssl could not make {pem}: {said}");
    }
    Ok(())
}
