mod trouble;

use std::process::Command;

use tempfile::TempDir;

use super::*;

const BUSY: Duration = Duration::from_secs(2);

struct Desk {
    dir: TempDir,
    journal: Journal,
}

fn desk() -> Desk {
    let dir = TempDir::new().unwrap();
    let journal = Journal::open(&dir.path().join("journal.db"), BUSY).unwrap();
    Desk { dir, journal }
}

fn at(seconds: u64) -> Now {
    Now {
        boot_id: "this boot".into(),
        boot: Duration::from_secs(seconds),
        wall: Duration::from_secs(1_000_000 + seconds),
    }
}

fn invocation(response: &str, key: &str) -> Invocation {
    Invocation {
        response: response.into(),
        digest: "d".repeat(64),
        dialect: Dialect::Ossec,
        event: serde_json::from_str(r#"{"action": "add"}"#).unwrap(),
        key: key.into(),
        origin: String::new(),
        owner: None,
        asker: None,
        dry_run: false,
        executable: String::new(),
        message: None,
    }
}

fn intent(address: &str, seconds: u64) -> Intent {
    Intent {
        network: crate::address::parse_network(address).unwrap(),
        backend: "record".into(),
        lasts: Duration::from_secs(seconds),
        orphan_lasts: None,
    }
}

/// A block of `response` on `address`, carried out.
fn block(
    journal: &mut Journal,
    now: &Now,
    response: &str,
    address: &str,
    seconds: u64,
) -> Intended {
    let run = journal.begin(now, &invocation(response, address)).unwrap();
    let intended = journal
        .intend(now, Run::Known(run), &intent(address, seconds))
        .unwrap();
    journal
        .done(intended.hold, Some(Duration::from_secs(seconds)))
        .unwrap();
    intended
}

fn left(journal: &Journal, now: &Now) -> Vec<u64> {
    let holds = journal.open_holds().unwrap();
    holds.iter().map(|hold| hold.left(now).as_secs()).collect()
}

#[test]
fn a_hold_is_written_before_it_is_done_and_open_until_it_is_gone() {
    let mut desk = desk();
    let journal = &mut desk.journal;
    let run = journal.begin(&at(0), &invocation("drop", "k")).unwrap();
    assert!(journal.open_holds().unwrap().is_empty());
    let intended = journal
        .intend(&at(0), Run::Known(run), &intent("192.0.2.1", 60))
        .unwrap();
    let state = |journal: &Journal| journal.open_holds().unwrap()[0].state;
    assert_eq!((intended.renewed, state(journal)), (false, State::Intended));
    journal.done(intended.hold, None).unwrap();
    assert_eq!(state(journal), State::Done);
    journal.releasing(intended.hold).unwrap();
    assert_eq!(state(journal), State::Releasing);
    journal.released(&at(9), intended.hold, "test").unwrap();
    assert!(journal.open_holds().unwrap().is_empty());
    let past = journal.history(10, None).unwrap();
    assert!(
        matches!(&past[0].effects[..], [Effected::Hold { how: Some(how), .. }] if how == "released: test"),
        "{past:?}"
    );
    assert_eq!(past[0].verdict, None, "the run was cut off");
}

#[test]
fn the_same_claim_is_the_same_hold_with_a_new_deadline() {
    let mut desk = desk();
    let first = block(&mut desk.journal, &at(0), "drop", "192.0.2.1", 60);
    let again = block(&mut desk.journal, &at(50), "drop", "192.0.2.1", 60);
    assert_eq!((again.hold, again.renewed), (first.hold, true));
    assert_eq!(left(&desk.journal, &at(60)), [50]);
}

#[test]
fn a_renewal_that_fails_leaves_the_hold_as_it_was() {
    let mut desk = desk();
    let first = block(&mut desk.journal, &at(0), "drop", "192.0.2.1", 60);
    let run = desk
        .journal
        .begin(&at(50), &invocation("drop", "192.0.2.1"))
        .unwrap();
    desk.journal
        .intend(&at(50), Run::Known(run), &intent("192.0.2.1", 60))
        .unwrap();
    assert_eq!(left(&desk.journal, &at(50)), [60]);
    desk.journal
        .failed(&at(50), first.hold, "the kernel is away")
        .unwrap();
    assert_eq!(left(&desk.journal, &at(50)), [10]);
    assert_eq!(desk.journal.open_holds().unwrap()[0].state, State::Done);
}

#[test]
fn a_block_that_fails_is_no_hold() {
    let mut desk = desk();
    let run = desk
        .journal
        .begin(&at(0), &invocation("drop", "k"))
        .unwrap();
    let intended = desk
        .journal
        .intend(&at(0), Run::Known(run), &intent("192.0.2.1", 60))
        .unwrap();
    desk.journal
        .failed(&at(0), intended.hold, "the kernel is away")
        .unwrap();
    assert!(desk.journal.open_holds().unwrap().is_empty());
}

#[test]
fn two_responses_hold_one_address_each_for_itself() {
    let mut desk = desk();
    let one = block(&mut desk.journal, &at(0), "one", "192.0.2.1", 60);
    let two = block(&mut desk.journal, &at(0), "two", "192.0.2.1", 600);
    assert_ne!(one.hold, two.hold);
    let address = "192.0.2.1/32".parse().unwrap();
    assert_eq!(desk.journal.holds_on(address, "record").unwrap().len(), 2);
    assert!(
        desk.journal
            .holds_on(address, "nftables")
            .unwrap()
            .is_empty()
    );
    desk.journal.released(&at(1), two.hold, "test").unwrap();
    let rest = desk.journal.holds_on(address, "record").unwrap();
    assert_eq!(
        rest.iter().map(|hold| hold.id).collect::<Vec<_>>(),
        [one.hold]
    );
    assert_eq!(
        desk.journal.holds_of("one", "192.0.2.1", "").unwrap().len(),
        1
    );
    assert!(
        desk.journal
            .holds_of("one", "192.0.2.2", "")
            .unwrap()
            .is_empty()
    );
}

#[test]
fn an_abort_restarts_every_deadline_of_its_block() {
    let mut desk = desk();
    block(&mut desk.journal, &at(0), "drop", "192.0.2.1", 60);
    block(&mut desk.journal, &at(0), "drop", "192.0.2.2", 60);
    let renewed = desk
        .journal
        .renew(&at(30), "drop", "192.0.2.1", Duration::from_secs(90))
        .unwrap();
    assert_eq!(renewed.len(), 1);
    assert_eq!(renewed[0].state, State::Intended);
    assert_eq!(left(&desk.journal, &at(30)), [90, 30]);
    // The firewall did not take it: it stands as it stood.
    desk.journal
        .failed(&at(30), renewed[0].id, "the kernel is away")
        .unwrap();
    assert_eq!(left(&desk.journal, &at(30)), [30, 30]);
    assert_eq!(desk.journal.open_holds().unwrap()[0].state, State::Done);
}

#[test]
fn no_clock_frees_an_attacker_or_keeps_a_block() {
    let mut desk = desk();
    block(&mut desk.journal, &at(100), "drop", "192.0.2.1", 60);
    let left = |boot_id: &str, boot: u64, wall: u64| {
        let now = Now {
            boot_id: boot_id.into(),
            boot: Duration::from_secs(boot),
            wall: Duration::from_secs(wall),
        };
        left(&desk.journal, &now)[0]
    };
    // Within the boot the wall clock may say what it likes.
    for wall in [0, 1_000_130, u64::from(u32::MAX)] {
        assert_eq!(left("this boot", 130, wall), 30, "{wall}");
    }
    assert_eq!(
        left("this boot", 99, 1_000_100),
        60,
        "never more than it began with"
    );
    assert_eq!(left("this boot", 161, 1_000_100), 0);
    // After a reboot the wall clock counts, and 1970 keeps what was left at most.
    for (wall, expected) in [(1_000_130, 30), (0, 60), (1_000_099, 60), (1_000_161, 0)] {
        assert_eq!(left("the next", 5, wall), expected, "{wall}");
    }
}

/// A hold of an execd, done.
fn owned(journal: &mut Journal, owner: &Owner, address: &str, seconds: u64, orphan: u64) -> i64 {
    let invocation = Invocation {
        owner: Some(owner.clone()),
        ..invocation("owned", address)
    };
    let intent = Intent {
        orphan_lasts: Some(Duration::from_secs(orphan)),
        ..intent(address, seconds)
    };
    let intended = journal
        .intend(&at(0), Run::New(&invocation), &intent)
        .unwrap();
    journal.done(intended.hold, None).unwrap();
    intended.hold
}

#[test]
fn what_may_be_due_is_found_and_nothing_else() {
    let mut desk = desk();
    let journal = &mut desk.journal;
    block(journal, &at(0), "long", "192.0.2.1", 600);
    let short = block(journal, &at(0), "short", "192.0.2.2", 10).hold;
    let half = journal.begin(&at(0), &invocation("half", "k")).unwrap();
    let half = journal
        .intend(&at(0), Run::Known(half), &intent("192.0.2.3", 600))
        .unwrap()
        .hold;
    let this = Owner::this().unwrap();
    let other = Owner {
        pid: this.pid + 1,
        ..this.clone()
    };
    let orphan = owned(journal, &this, "192.0.2.4", 600, 20);

    let due = |now: &Now, alive: bool, limit: u32| -> Vec<i64> {
        let holds = desk.journal.maybe_due(now, |_| alive, limit).unwrap();
        holds.iter().map(|hold| hold.id).collect()
    };
    assert_eq!(due(&at(9), false, 9), [half]);
    assert_eq!(due(&at(11), false, 9), [short, half]);
    assert_eq!(due(&at(21), true, 9), [short, half]);
    assert_eq!(due(&at(21), false, 9), [short, half, orphan]);
    // Of an earlier boot, by the wall clock, and its execd with it.
    let rebooted = |seconds: u64| Now {
        boot_id: "the next".into(),
        ..at(seconds)
    };
    assert_eq!(due(&rebooted(11), true, 9), [short, half]);
    assert_eq!(due(&rebooted(21), true, 9), [short, half, orphan]);

    // However many a living execd keeps, one of a dead one is found.
    for n in 0..100 {
        owned(
            &mut desk.journal,
            &this,
            &format!("198.51.100.{n}"),
            600,
            20,
        );
    }
    let last = owned(&mut desk.journal, &other, "203.0.113.1", 600, 20);
    let due = desk
        .journal
        .maybe_due(&at(30), |owner| *owner == this, 5)
        .unwrap();
    assert!(due.iter().any(|hold| hold.id == last));
    assert!(due.len() < 10, "{}", due.len());
}

#[test]
fn of_two_runs_the_younger_is_told_from_the_older() {
    let this = Owner::this().unwrap();
    let mut sleeping = Command::new("sleep").arg("60").spawn().unwrap();
    let child = Owner::of(sleeping.id().try_into().unwrap()).unwrap();
    sleeping.kill().unwrap();
    sleeping.wait().unwrap();
    assert!(child.is_younger_than(&this) && !this.is_younger_than(&child));
    assert!(!this.is_younger_than(&this));
    let before = Owner {
        boot_id: "another".into(),
        ..this.clone()
    };
    assert!(!this.is_younger_than(&before) && !before.is_younger_than(&this));
}

#[test]
fn budgets_count_new_blocks_of_the_last_minute() {
    let mut desk = desk();
    let minute = Duration::from_secs(60);
    for (second, response, address) in [
        (0, "one", "192.0.2.1"),
        (50, "one", "192.0.2.2"),
        (55, "one", "192.0.2.2"),
        (59, "two", "192.0.2.3"),
    ] {
        block(&mut desk.journal, &at(second), response, address, 600);
    }
    let count = |second, response| {
        desk.journal
            .recent_blocks(&at(second), response, minute)
            .unwrap()
    };
    assert_eq!(
        (count(59, Some("one")), count(59, None)),
        (2, 3),
        "a renewal is no new block"
    );
    assert_eq!((count(61, Some("one")), count(61, None)), (1, 2));
    assert_eq!(count(200, None), 0);
}

#[test]
fn the_history_forgets_but_never_what_stands() {
    let mut desk = desk();
    block(&mut desk.journal, &at(0), "stands", "192.0.2.1", 600);
    let gone = block(&mut desk.journal, &at(0), "gone", "192.0.2.2", 600);
    desk.journal.released(&at(1), gone.hold, "test").unwrap();
    // As if a hundred thousand runs had been since.
    desk.journal
        .connection
        .execute(
            "UPDATE sqlite_sequence SET seq = 200000 WHERE name = 'run'",
            [],
        )
        .unwrap();
    let run = desk.journal.begin(&at(2), &invocation("new", "k")).unwrap();
    desk.journal
        .finish(&at(2), run, "ok", &serde_json::Value::Null)
        .unwrap();
    let past = desk.journal.history(10, None).unwrap();
    let names: Vec<&str> = past.iter().map(|run| run.response.as_str()).collect();
    assert_eq!(names, ["new", "stands"]);
    assert_eq!(desk.journal.open_holds().unwrap().len(), 1);
}

#[test]
fn names_keep_what_they_stood_for() {
    let mut desk = desk();
    let addresses = |journal: &Journal| journal.addresses_of("manager").unwrap();
    assert!(addresses(&desk.journal).is_empty());
    for now in [
        vec!["192.0.2.1".parse().unwrap()],
        vec!["2001:db8::1".parse().unwrap()],
    ] {
        desk.journal.remember_name(&at(0), "manager", &now).unwrap();
        assert_eq!(addresses(&desk.journal), now);
    }
}

#[test]
fn an_owner_is_a_process_and_not_its_number() {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let owner = Owner::of(child.id().try_into().unwrap()).unwrap();
    assert!(owner.alive());
    let later = Owner {
        start_time: owner.start_time + 1,
        ..owner.clone()
    };
    assert!(!later.alive(), "another process of that number");
    let before = Owner {
        boot_id: "another".into(),
        ..owner.clone()
    };
    assert!(!before.alive(), "of another boot");
    child.kill().unwrap();
    let gone = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        !owner.alive()
    });
    assert!(gone, "a zombie sends no delete");
    child.wait().unwrap();
    assert!(!owner.alive());
    assert_eq!(Owner::of(owner.pid), None);
}
