//! Clocks, and how a comparison is printed.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

/// The middle of many runs on both clocks.
#[derive(Clone, Copy)]
pub struct Cost {
    /// The median wall-clock time of one run.
    pub wall: Duration,
    /// User and system time of one run, on average: this process and what it waited
    /// for.
    pub cpu: Duration,
}

/// Runs `work` `count` times after a tenth of that to warm up.
pub fn cost(count: usize, mut work: impl FnMut(usize)) -> Cost {
    let warm = count / 10 + 1;
    for n in 0..warm {
        work(n);
    }
    let before = cpu();
    let mut walls: Vec<Duration> = (warm..warm + count)
        .map(|n| {
            let started = Instant::now();
            work(n);
            started.elapsed()
        })
        .collect();
    let cpu = (cpu() - before) / u32::try_from(count).expect("a small count");
    walls.sort();
    Cost {
        wall: walls[count / 2],
        cpu,
    }
}

fn cpu() -> Duration {
    [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN]
        .into_iter()
        .map(|who| {
            let usage = getrusage(who).expect("the kernel counts");
            [usage.user_time(), usage.system_time()]
                .into_iter()
                .map(|time| {
                    Duration::from_micros(
                        u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec())
                            .expect("a time that passed"),
                    )
                })
                .sum::<Duration>()
        })
        .sum()
}

/// One line of two figures and their ratio.
pub fn compare(what: &str, ours: Duration, theirs_name: &str, theirs: Duration) {
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    println!(
        "{what}: {ours:.1?}; {theirs_name}: {theirs:.1?}; ratio {ratio:.3} (1/{:.1})",
        1.0 / ratio
    );
}
