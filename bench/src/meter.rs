//! What can be seen from outside while something is measured: CPU of the servers, of our own
//! processes and of everybody else, and how busy the disk is.

use anyhow::Result;
use ratebox_kit::Stopwatch;

use crate::report::{Line, rounded};
use crate::resp::Resp;
use crate::servers::Servers;
use crate::{inputs, proc};

/// A measurement under way.
#[derive(Debug)]
pub(crate) struct Meter {
    watch: Stopwatch,
    pids: Option<(u32, u32)>,
    /// Redis, and how often it had forked before.
    forks: Option<(Resp, u64)>,
    ours: Vec<(u32, f64)>,
    before: Reading,
    load1: f64,
    fsync_us: f64,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    redis: f64,
    postgres: f64,
    bench: f64,
    machine: f64,
    stolen: f64,
}

impl Reading {
    fn take(pids: Option<(u32, u32)>) -> Self {
        let (redis, postgres) = pids.unwrap_or_default();
        let (machine, stolen) = proc::machine_cpu_s();
        Self {
            redis: proc::cpu_s(redis),
            postgres: proc::tree_cpu_s(postgres),
            // Programs that ran and ended, such as the load generator, are in the second part.
            bench: proc::cpu_with_reaped_s(std::process::id()),
            machine,
            stolen,
        }
    }
}

impl Meter {
    /// Starts measuring. `ours` are processes of RateBox that run already.
    ///
    /// # Errors
    /// When the disk cannot be probed or Redis does not answer.
    pub(crate) fn start(servers: Option<&Servers>, ours: &[u32]) -> Result<Self> {
        let pids = servers.map(|it| (it.redis_pid, it.postgres_pid));
        let forks = servers.map(|it| {
            let mut redis = it.redis()?;
            let before = redis.forks()?;
            anyhow::Ok((redis, before))
        });
        let forks = forks.transpose()?;
        let (load1, fsync_us) = (proc::load1(), proc::fsync_us(&inputs::cache_dir()?)?);
        Ok(Self {
            pids,
            forks,
            ours: ours.iter().map(|pid| (*pid, proc::cpu_s(*pid))).collect(),
            before: Reading::take(pids),
            load1,
            fsync_us,
            watch: Stopwatch::start(),
        })
    }

    /// One more process of ours, started just now.
    pub(crate) fn add(&mut self, pid: u32) {
        self.ours.push((pid, 0.0));
    }

    /// CPU seconds of one of our processes since the start.
    pub(crate) fn cpu_s(&self, pid: u32) -> f64 {
        let before = self.ours.iter().find(|(one, _)| *one == pid);
        proc::cpu_s(pid) - before.map_or(0.0, |(_, cpu)| *cpu)
    }

    /// Ends the measurement and writes what was seen. Our processes must still run.
    ///
    /// # Errors
    /// When the disk cannot be probed or Redis does not answer.
    pub(crate) fn finish(mut self, line: Line) -> Result<Line> {
        let wall = self.watch.elapsed().as_secs_f64();
        let (before, after) = (self.before, Reading::take(self.pids));
        let ours: f64 = self.ours.iter().map(|(pid, _)| self.cpu_s(*pid)).sum();
        let ours = ours + after.bench - before.bench;
        let redis = after.redis - before.redis;
        let postgres = after.postgres - before.postgres;
        let machine = after.machine - before.machine;
        let other = machine - redis - postgres - ours;
        let mut line = line
            .with("wall_s", rounded(wall, 2))
            .with("proc_cpu_s", rounded(ours, 2));
        if self.pids.is_some() {
            line = line
                .with("redis_cpu_s", rounded(redis, 2))
                .with("pg_cpu_s", rounded(postgres, 2));
        }
        if let Some((redis, before)) = &mut self.forks {
            line = line.with("redis_forks", redis.forks()? - *before);
        }
        Ok(line
            .with("machine_cpu_s", rounded(machine, 2))
            .with("steal_s", rounded(after.stolen - before.stolen, 2))
            .with("other_cpu_s", rounded(other, 2))
            .with("other_share", rounded(other / (wall * proc::cores()), 3))
            .with("load1_before", rounded(self.load1, 2))
            .with("fsync_us_before", self.fsync_us)
            .with("fsync_us_after", proc::fsync_us(&inputs::cache_dir()?)?))
    }
}
