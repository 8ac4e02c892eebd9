use super::*;

fn read(text: &str) -> Result<Grants, Box<Problem>> {
    parse(text, Path::new("retort.toml"))
}

fn refused(text: &str) -> Problem {
    *read(text).unwrap_err()
}

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/grants.md");

/// The file that `docs/grants.md` shows.
fn reference() -> String {
    let text = std::fs::read_to_string(REFERENCE).unwrap();
    let (_, rest) = text.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_reference_is_read_and_its_defaults_are_the_defaults() {
    let grants = read(&reference()).unwrap();
    let usual = Grants::default();
    assert_eq!((grants.dialect, grants.mode), (usual.dialect, usual.mode));
    assert_eq!(grants.limits, Limits::default());
    assert_eq!(grants.ceilings, Limits::default_ceilings());
    assert_eq!(grants.firewall.backend, usual.firewall.backend);
    assert_eq!(grants.firewall.longest, usual.firewall.longest);
    assert_eq!(grants.firewall.per_minute, usual.firewall.per_minute);
    assert_eq!(grants.firewall.protect.len(), 2);
    assert_eq!(grants.firewall.admin_sessions.as_deref(), None);
    assert_eq!(grants.watch.exclude_rules, [601, 602]);
    assert!(grants.watch.file.is_some());
    let drop = grants.response("firewall-drop");
    assert_eq!(drop.firewall.unwrap().target, Target::Srcip);
    let restart = &grants.response("restart-ossec").process["restart"];
    assert!(restart.detached);
    assert_eq!(restart.wall, Duration::from_secs(120));
    assert_eq!(restart.on, [Action::Add]);
    let lists = grants.response("makelists");
    assert_eq!(
        lists.process["makelists"].argv[1],
        Argument::Field(Field::User)
    );
    assert_eq!(lists.limits.wall, Duration::from_secs(30));
    assert_eq!(lists.limits.fuel, Limits::default().fuel);
}

#[test]
fn an_executable_has_the_grants_of_the_first_component_that_is_named() {
    let both = "[response.drop]\nhostname = true\n[response.\"drop.sh\"]\nhostname = false\n";
    assert!(!read(both).unwrap().of_executable("drop.sh").hostname);
    let stem = read("[response.drop]\nhostname = true\n").unwrap();
    assert!(stem.of_executable("drop.sh").hostname);
    assert!(!stem.of_executable("other.sh").hostname);
    assert!(!stem.of_executable("../drop").hostname);
}

#[test]
fn nothing_is_granted_to_whom_the_file_does_not_name() {
    let grants = read("[limits]\nfuel = 5\n").unwrap();
    let other = grants.response("other");
    assert_eq!(
        other,
        Response {
            limits: grants.limits,
            ..Response::default()
        }
    );
    assert_eq!(other.limits.fuel, 5);
}

#[test]
fn each_mistake_has_its_place_and_its_line_to_write() {
    for (text, line, what, fix) in [
        ("mod = 1", 1, "unknown field `mod`", Some("mode")),
        (
            "mode = \"observ\"",
            1,
            "unknown variant `observ`",
            Some("observe"),
        ),
        (
            "[limits]\nfuel = 1\nwall = \"60 ms\"",
            3,
            "shorter than",
            Some("wall = \"250ms\""),
        ),
        (
            "[limits]\nfuel = 1\nwall = \"2 m\"",
            3,
            "above the ceiling",
            Some("[ceilings]"),
        ),
        ("\n[limits]\nfuel = -1", 3, "invalid value", None),
        (
            "[limits]\nwall = \"5\"",
            2,
            "`5` is no duration",
            Some("\"5 s\""),
        ),
        (
            "[limits]\nwall = \"0 s\"",
            2,
            "longer than nothing",
            Some("\"5 s\""),
        ),
        (
            "[limits]\nmemory = \"much\"",
            2,
            "`much` is no size",
            Some("\"16 MiB\""),
        ),
        (
            "[firewall]\nbackend = \"hosts-deny\"",
            2,
            "`hosts-deny` is no backend",
            Some("\"nftables\" or \"record\""),
        ),
        (
            "[firewall]\nprotect_admin_sessions = \"wheel,sudo\"",
            2,
            "is no name of a group",
            Some("\"wheel\" (or \"off\")"),
        ),
        (
            "mode = \"observe\"\non_stop = \"releases\"",
            2,
            "unknown variant `releases`",
            Some("release"),
        ),
        (
            "[legacy]\nallow = [\"../x.sh\"]",
            2,
            "holds a path separator",
            None,
        ),
        (
            "[metrics]\ntextfile = \"retort.prom\"",
            2,
            "no absolute path",
            Some("one that begins with `/`"),
        ),
        (
            "[firewall]\nnat64 = [\"2001:db8:0:2::/95\"]",
            2,
            "is no NAT64 prefix",
            Some("/96"),
        ),
        ("[firewall]\nper_minute = 0", 2, "at least 1", None),
        (
            "[watch]\nfile = \"alerts.json\"",
            2,
            "no absolute path",
            Some("one that begins with `/`"),
        ),
        ("[watch]\nrules = [1]", 2, "unknown field", None),
        (
            "[firewall]\nprotect = [\"not a name\"]",
            2,
            "`not a name` is no address",
            Some("\"10.0.0.0/8\""),
        ),
        (
            "[response.x]\nfirewall = { target = \"all\" }",
            2,
            "`all` is no target",
            Some("\"srcip\""),
        ),
        (
            "[response.x]\nfirewall = { widest = { ipv4 = 33 } }",
            2,
            "longer than 32",
            None,
        ),
        (
            "[response.x]\nprocess.a = { argv = [\"sh\"] }",
            2,
            "absolute",
            Some("/usr"),
        ),
        (
            "[response.x]\nprocess.a = { argv = [] }",
            2,
            "absolute",
            Some("/usr"),
        ),
        (
            "[response.x]\nprocess.a = { argv = [\"/bin/x\", \"{pid}\"] }",
            2,
            "`{pid}` is no placeholder",
            Some("{user}"),
        ),
        (
            "[response.x]\nprocess.a = { argv = [\"/bin/x\", \"--u={user}\"] }",
            2,
            "whole argument",
            Some("\"{user}\""),
        ),
        (
            "[response.x]\nprocess.\"a b\" = { argv = [\"/bin/x\"] }",
            2,
            "no helper name",
            None,
        ),
        (
            "[response.\"../x\"]\nhostname = true",
            1,
            "holds a path separator",
            None,
        ),
        (
            "[response.x]\nlimits = { fuel = 2_000_000_000 }",
            2,
            "above the ceiling",
            Some("[ceilings]"),
        ),
        ("[response.x]\nsha256 = \"abc\"", 2, "64 hexadecimal", None),
        (
            "[response.x]\nexpect = [\"dstip\"]",
            2,
            "unknown variant `dstip`",
            Some("srcip"),
        ),
    ] {
        let problem = refused(text);
        assert_eq!(problem.line, line, "{text}: {problem}");
        assert!(problem.what.contains(what), "{text}: {problem}");
        if let Some(fix) = fix {
            assert!(
                problem.fix.as_deref().unwrap_or_default().contains(fix),
                "{text}: {problem}"
            );
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,400}") {
        let _ = read(&text);
    }
}
