//! One guest, every bad manner: `extra-args[0]` chooses. What it must not be able
//! to do is asserted by `tests/hostile.rs`.

use std::hint::black_box;
use std::net::IpAddr;

use retort_guest::{Address, Error, Event, Network, firewall, hostname, log, process};

fn handle(event: Event) -> Result<(), Error> {
    let manner = event.extra_args.first().map(String::as_str).unwrap_or_default();
    let other = || -> Address {
        let text = event.extra_args.get(1).map(String::as_str).unwrap_or_default();
        text.parse::<IpAddr>().expect("an address in extra-args[1]").into()
    };
    let srcip = || event.srcip.expect("a srcip");
    match manner {
        "ok" => Ok(()),
        "endless-loop" => loop {
            black_box(());
        },
        "recursion" => {
            black_box(recurse(1));
            Ok(())
        }
        "memory-growth" => {
            let mut all: Vec<Vec<u8>> = Vec::new();
            loop {
                all.push(black_box(Vec::with_capacity(1 << 20)));
            }
        }
        "four-gib" => {
            black_box(vec![1_u8; usize::try_from(u32::MAX / 2).expect("fits")]);
            Ok(())
        }
        "log-flood" => loop {
            log::info("flood");
        },
        "log-line" => {
            log::info(&"x".repeat(8 << 20));
            Ok(())
        }
        "host-call-flood" => loop {
            let _ = firewall::is_blocked(Network::host(srcip()));
        },
        "hostname-flood" => loop {
            black_box(hostname::get());
        },
        "huge-string" => process::run(&"x".repeat(8 << 20)).map(drop),
        "block" => firewall::block(Network::host(srcip())),
        "block-other" => firewall::block(Network::host(other())),
        "block-all4" => firewall::block(Network { address: Address::Ipv4((0, 0, 0, 0)), prefix_length: 0 }),
        "block-all6" => firewall::block(Network {
            address: Address::Ipv6((0, 0, 0, 0, 0, 0, 0, 0)),
            prefix_length: 0,
        }),
        "block-network" => firewall::block(network(&event)),
        "unblock-network" => firewall::unblock(network(&event)),
        "ask-network" => match firewall::is_blocked(network(&event))? {
            true => Ok(()),
            false => Err(Error::Failed("it is not blocked".into())),
        },
        "block-nonsense" => firewall::block(Network { address: srcip(), prefix_length: 200 }),
        "shrug" => {
            let _ = firewall::block(Network { address: Address::Ipv4((127, 0, 0, 1)), prefix_length: 32 });
            Ok(())
        }
        "block-twice" => {
            firewall::block(Network::host(srcip()))?;
            firewall::block(Network::host(srcip()))
        }
        "block-then-panic" => {
            firewall::block(Network::host(srcip()))?;
            panic!("after the block");
        }
        "block-then-loop" => {
            firewall::block(Network::host(srcip()))?;
            loop {
                black_box(());
            }
        }
        "unblock-other" => firewall::unblock(Network::host(other())),
        "helper" => {
            let helper = event.extra_args.get(1).map(String::as_str).unwrap_or_default();
            match process::run(helper)? {
                0 => Ok(()),
                code => Err(Error::Failed(format!("exit code {code}"))),
            }
        }
        "panic" => panic!("a panic\nwith a second line"),
        "trap" => std::process::abort(),
        "error-denied" => Err(Error::Denied("a reason\nof two lines".into())),
        "error-invalid" => Err(Error::Invalid("a reason".into())),
        "error-unavailable" => Err(Error::Unavailable("a reason".into())),
        "error-failed" => Err(Error::Failed("a reason".into())),
        other => panic!("`{other}` is no manner"),
    }
}

/// The network in `extra-args[1]`, the length of its prefix in `extra-args[2]`.
fn network(event: &Event) -> Network {
    let word = |at: usize| event.extra_args.get(at).map(String::as_str).unwrap_or_default();
    Network {
        address: word(1).parse::<IpAddr>().expect("an address in extra-args[1]").into(),
        prefix_length: word(2).parse().expect("a number in extra-args[2]"),
    }
}

/// Small frames: the machine's stack ends before the module's own.
#[inline(never)]
#[expect(unconditional_recursion, reason = "that is the bad manner")]
fn recurse(depth: u64) -> u64 {
    recurse(black_box(depth)).wrapping_add(1)
}

retort_guest::response!(handle);
