//! CPU time and memory of processes, from /proc (Linux).

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use ratebox_kit::Stopwatch;

/// Ticks a second in /proc; fixed for programs, whatever the kernel uses.
const TICKS: f64 = 100.0;
/// Bytes of one probing write.
const PROBE_BYTES: usize = 8192;
/// How many probing writes are timed.
const PROBES: usize = 40;

struct Stat {
    parent: u32,
    own: f64,
    reaped: f64,
}

fn stat(pid: u32) -> Option<Stat> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in the second field may hold spaces and parentheses; the fields go on after it.
    let fields: Vec<&str> = line.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own: (ticks(11)? + ticks(12)?) / TICKS,
        reaped: (ticks(13)? + ticks(14)?) / TICKS,
    })
}

/// CPU seconds of one process so far, children not counted; 0 when it has ended.
pub(crate) fn cpu_s(pid: u32) -> f64 {
    stat(pid).map_or(0.0, |stat| stat.own)
}

/// CPU seconds of a process and of the children that it has reaped.
pub(crate) fn cpu_with_reaped_s(pid: u32) -> f64 {
    stat(pid).map_or(0.0, |stat| stat.own + stat.reaped)
}

/// CPU seconds of a server of many processes: itself, children that ended, children that live.
pub(crate) fn tree_cpu_s(pid: u32) -> f64 {
    let own = cpu_with_reaped_s(pid);
    let live = pids().filter_map(stat).filter(|stat| stat.parent == pid);
    own + live.map(|stat| stat.own).sum::<f64>()
}

fn pids() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Memory of a process at its peak, MiB.
pub(crate) fn rss_peak_mib(pid: u32) -> f64 {
    memory_mib(pid, "VmHWM:")
}

/// Memory of a process now, MiB.
pub(crate) fn rss_mib(pid: u32) -> f64 {
    memory_mib(pid, "VmRSS:")
}

fn memory_mib(pid: u32, name: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// CPU seconds that the whole machine has worked since its start, and those that its host took.
pub(crate) fn machine_cpu_s() -> (f64, f64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = text.lines().next().unwrap_or_default();
    let fields: Vec<f64> = first
        .split_whitespace()
        .skip(1)
        .filter_map(|ticks| Some(ticks.parse::<f64>().ok()? / TICKS))
        .collect();
    let at = |index: usize| fields.get(index).copied().unwrap_or(0.0);
    (at(0) + at(1) + at(2) + at(5) + at(6), at(7))
}

/// Processes that wanted to run, averaged over the last minute.
pub(crate) fn load1() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split(' ').next().and_then(|load| load.parse().ok());
    first.unwrap_or(0.0)
}

/// Processors of the machine.
pub(crate) fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64)
}

/// Median microseconds of an 8 kB overwrite and its flush in `folder`: how busy the disk is.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn fsync_us(folder: &Path) -> Result<f64> {
    let path = folder.join(format!("probe-{}", std::process::id()));
    let file = File::create(&path).context("the disk cannot be probed")?;
    file.write_all_at(&vec![b'0'; PROBE_BYTES * PROBES], 0)?;
    file.sync_all()?;
    let mut took = Vec::with_capacity(PROBES);
    for index in 0..PROBES {
        let watch = Stopwatch::start();
        file.write_all_at(&[b'a'; PROBE_BYTES], (index * PROBE_BYTES) as u64)?;
        file.sync_data()?;
        took.push(watch.elapsed().as_secs_f64() * 1e6);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    std::fs::remove_file(&path)?;
    took.sort_by(f64::total_cmp);
    Ok(took.get(PROBES / 2).copied().unwrap_or(0.0).round())
}
