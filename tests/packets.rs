//! Real packets: a client, the host, its gateway and a service behind destination
//! NAT, each in a network namespace. What is blocked is cut, new connections and
//! open ones; everything else is as before.

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use support::guests;
use support::netns::Netns;
use support::root::Root;

/// Echoes lines on a port, IPv4 and IPv6, until it is killed.
const SERVER: &str = "
import socket, sys, threading
server = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
server.bind(('::', int(sys.argv[1])))
server.listen(64)
print('ready', flush=True)
def serve(connection):
    while True:
        data = connection.recv(100)
        if not data:
            return
        connection.sendall(data)
while True:
    connection, _ = server.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
";

/// Connects, then answers each line on stdin with whether an echo came.
const CLIENT: &str = "
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1.5)
print('open', flush=True)
connection.settimeout(1.0)
for line in sys.stdin:
    try:
        connection.sendall(b'x')
        print('echo' if connection.recv(1) == b'x' else 'closed', flush=True)
    except OSError:
        print('cut', flush=True)
";

struct Server(Child);

impl Server {
    fn start(netns: &Netns, port: u16) -> Self {
        let mut child = netns
            .command("python3")
            .args(["-c", SERVER, &port.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A connection that stays open.
struct Connection {
    child: Child,
    say: ChildStdin,
    hear: BufReader<ChildStdout>,
}

impl Connection {
    /// None where none comes about.
    fn open(netns: &Netns, address: &str, port: u16) -> Option<Self> {
        let mut child = netns
            .command("python3")
            .args(["-c", CLIENT, address, &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let say = child.stdin.take().unwrap();
        let mut hear = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        hear.read_line(&mut line).unwrap();
        if line == "open\n" {
            return Some(Self { child, say, hear });
        }
        child.wait().unwrap();
        None
    }

    fn works(&mut self) -> bool {
        self.say.write_all(b"\n").unwrap();
        let mut line = String::new();
        self.hear.read_line(&mut line).unwrap();
        line == "echo\n"
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn reaches(netns: &Netns, address: &str, port: u16) -> bool {
    Connection::open(netns, address, port).is_some_and(|mut connection| connection.works())
}

/// Client, host, gateway and service, and an installation on the host.
struct Net {
    client: Netns,
    host: Netns,
    gateway: Netns,
    service: Netns,
    root: Root,
    _servers: Vec<Server>,
}

const HOST4: &str = "192.0.2.1";
const HOST6: &str = "2001:db8:1::1";
const CLIENT4: &str = "192.0.2.9";
const CLIENT6: &str = "2001:db8:1::9";
const GATEWAY4: &str = "198.51.100.1";

impl Net {
    fn new(dialect: &str) -> Self {
        let (client, host) = (Netns::new("client"), Netns::new("host"));
        let (gateway, service) = (Netns::new("gateway"), Netns::new("service"));
        Netns::wire(
            (&client, "c0", &["192.0.2.9/24", "2001:db8:1::9/64"]),
            (&host, "h0", &["192.0.2.1/24", "2001:db8:1::1/64"]),
        );
        Netns::wire(
            (&gateway, "g0", &["198.51.100.1/24"]),
            (&host, "h1", &["198.51.100.2/24"]),
        );
        Netns::wire(
            (&service, "s0", &["10.77.0.2/24"]),
            (&host, "h2", &["10.77.0.1/24"]),
        );
        host.sh("ip route add default via 198.51.100.1");
        service.sh("ip route add default via 10.77.0.1");
        gateway.sh("ip route add default via 198.51.100.2");
        host.sh("sysctl -qw net.ipv4.ip_forward=1");
        // A published port, as a container has it, and rules of the machine's own.
        host.sh("nft add table ip published");
        host.sh("nft 'add chain ip published pre { type nat hook prerouting priority dstnat ; }'");
        host.sh("nft add rule ip published pre tcp dport 8080 dnat to 10.77.0.2:80");
        host.sh("nft add table inet filter");
        host.sh("nft 'add chain inet filter input { type filter hook input priority 0 ; policy accept ; }'");
        host.sh("nft add rule inet filter input ct state established,related accept");
        let servers = vec![
            Server::start(&host, 22),
            Server::start(&service, 80),
            Server::start(&gateway, 22),
        ];
        let root = Root::with(
            &[("firewall-drop", &guests::response("firewall-drop"))],
            dialect,
            "nftables",
        );
        Self {
            client,
            host,
            gateway,
            service,
            root,
            _servers: servers,
        }
    }

    /// The machine's own rules.
    fn others(&self) -> String {
        ["ip published", "inet filter"]
            .iter()
            .map(|t| self.host.sh(&format!("nft list table {t}")))
            .collect()
    }

    /// A Wazuh message through the link, in the host's namespace.
    fn wazuh(&self, command: &str, srcip: &str) -> i32 {
        let message = |command: &str| {
            format!(
                "{}\n",
                serde_json::json!({
                    "version": 1, "origin": {"name": "node01", "module": "wazuh-execd"}, "command": command,
                    "parameters": {"extra_args": [], "alert": {"data": {"srcip": srcip}}, "program": "active-response/bin/firewall-drop"}
                })
            )
        };
        let mut child = self
            .host
            .command(self.root.bin("firewall-drop"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(message(command).as_bytes()).unwrap();
        if command == "add" {
            let mut line = String::new();
            BufReader::new(child.stdout.as_mut().unwrap())
                .read_line(&mut line)
                .unwrap();
            if !line.is_empty() {
                assert!(line.contains("check_keys"), "{line}");
                stdin.write_all(message("continue").as_bytes()).unwrap();
            }
        }
        // stdin stays open: an execd does not close it before the end.
        let status = child.wait().unwrap();
        drop(stdin);
        status.code().unwrap()
    }

    fn ossec(&self, action: &str, srcip: &str) -> i32 {
        let status = self
            .host
            .command(self.root.bin("firewall-drop.sh"))
            .args([
                action,
                "-",
                srcip,
                "1795489577.1",
                "5712",
                "/var/log/auth.log",
                "-",
            ])
            .status()
            .unwrap();
        status.code().unwrap()
    }
}

#[test]
fn a_wazuh_message_cuts_new_and_open_connections_and_delete_gives_them_back() {
    let net = Net::new("wazuh4");
    let others = net.others();
    let mut open = Connection::open(&net.client, HOST4, 22).expect("it works before");
    let mut open_nat =
        Connection::open(&net.client, HOST4, 8080).expect("the NATed port works before");
    assert!(open.works() && open_nat.works());

    assert_eq!(net.wazuh("add", CLIENT4), 0, "{}", net.root.log());
    assert!(!open.works(), "the open connection is cut");
    assert!(!open_nat.works(), "the open NATed connection is cut");
    assert!(!reaches(&net.client, HOST4, 22), "no new connection");
    assert!(
        !reaches(&net.client, HOST4, 8080),
        "no new NATed connection"
    );
    assert!(
        reaches(&net.client, HOST6, 22),
        "the other family is not meant"
    );
    assert!(reaches(&net.host, "127.0.0.1", 22), "loopback stays");
    assert!(reaches(&net.host, GATEWAY4, 22), "the gateway stays");
    assert!(reaches(&net.gateway, "198.51.100.2", 22), "and from there");
    assert_eq!(
        net.others(),
        others,
        "the machine's own rules are as before"
    );

    assert_eq!(net.wazuh("delete", CLIENT4), 0, "{}", net.root.log());
    assert!(
        reaches(&net.client, HOST4, 22) && reaches(&net.client, HOST4, 8080),
        "it works again"
    );
    assert_eq!(net.others(), others);
    assert!(reaches(&net.service, "10.77.0.1", 22));
}

#[test]
fn an_ossec_call_blocks_ipv6_and_its_delete_lets_go() {
    let net = Net::new("ossec");
    let mut open = Connection::open(&net.client, HOST6, 22).expect("it works before");
    assert_eq!(net.ossec("add", CLIENT6), 0, "{}", net.root.log());
    assert!(!open.works() && !reaches(&net.client, HOST6, 22));
    assert!(reaches(&net.client, HOST4, 22));
    assert_eq!(net.ossec("delete", CLIENT6), 0);
    assert!(reaches(&net.client, HOST6, 22));
    assert_eq!(net.ossec("add", CLIENT4), 0);
    assert!(!reaches(&net.client, HOST4, 22));
    assert_eq!(net.ossec("delete", CLIENT4), 0);
    assert!(reaches(&net.client, HOST4, 22));
}

#[test]
fn the_gateway_stays_whatever_a_message_asks() {
    let net = Net::new("wazuh4");
    let table = || net.host.sh("nft list ruleset");
    let before = table();
    for spelling in [
        "198.51.100.1",
        "::ffff:198.51.100.1",
        "64:ff9b::198.51.100.1",
        "2002:c633:6401::1",
        "::198.51.100.1",
        "192.0.2.1",
        "2001:db8:1::1",
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "fe80::1",
        "10.77.0.1",
    ] {
        assert_ne!(
            net.wazuh("add", spelling),
            0,
            "{spelling} is answered as done"
        );
        assert!(net.root.blocked().is_empty(), "{spelling}");
        assert_eq!(table(), before, "{spelling}");
    }
    assert!(reaches(&net.host, GATEWAY4, 22));
}

#[test]
fn an_address_leaves_the_kernel_with_its_second_hold() {
    let drop = guests::response("firewall-drop");
    let root = Root::granted(
        &[("firewall-drop", &drop), ("other-drop", &drop)],
        "[response.firewall-drop]\nexpect = [\"srcip\"]\nfirewall = {}\n[response.other-drop]\nexpect = [\"srcip\"]\nfirewall = {}\n",
    );
    let host = Netns::new("holds");
    let call = |link: &str, action: &str| {
        let status = host
            .command(root.bin(link))
            .args([action, "-", "203.0.113.7", "1.1", "5712", "/x", "-"])
            .status()
            .unwrap();
        assert!(status.success(), "{}", root.log());
    };
    let in_the_kernel = || host.sh("nft list ruleset").contains("203.0.113.7");
    for (first, second) in [
        ("firewall-drop", "other-drop"),
        ("other-drop", "firewall-drop"),
    ] {
        call("firewall-drop", "add");
        call("other-drop", "add");
        assert_eq!(root.blocked().len(), 2);
        call(first, "delete");
        assert!(in_the_kernel(), "the other hold stands");
        call(second, "delete");
        assert!(!in_the_kernel());
    }
}

/// Whatever somebody does to our table, `check` says that it lets packets through, and
/// `sweep` makes it whole, with what is held.
#[test]
fn a_table_that_somebody_changed_is_found_and_mended() {
    let net = Net::new("ossec");
    let retort = |arguments: &[&str]| {
        let mut command = net.host.command(support::root::RETORT);
        command
            .arg("--root")
            .arg(net.root.path())
            .args(arguments)
            .output()
            .unwrap()
    };
    assert_eq!(net.ossec("add", CLIENT4), 0, "{}", net.root.log());
    let tables = net.host.sh("nft list tables");
    let table = tables
        .split_whitespace()
        .find(|word| word.starts_with("retort_"))
        .unwrap()
        .to_owned();
    assert!(retort(&["check"]).status.success());
    for harm in [
        format!("nft insert rule inet {table} early accept"),
        format!("nft add table inet {table} '{{ flags dormant ; }}'"),
        format!("nft flush chain inet {table} early"),
        format!("nft delete element inet {table} blocked4 '{{ {CLIENT4} }}'"),
        "nft flush ruleset".to_owned(),
    ] {
        assert!(!reaches(&net.client, HOST4, 22), "before {harm}");
        net.host.sh(&harm);
        assert!(reaches(&net.client, HOST4, 22), "{harm}: it does nothing");
        let check = retort(&["check"]);
        let said = String::from_utf8_lossy(&check.stdout).into_owned();
        assert!(said.contains("`retort sweep`"), "{harm}: {said}");
        let sweep = retort(&["sweep"]);
        assert!(sweep.status.success(), "{harm}: {sweep:?}");
        assert!(!reaches(&net.client, HOST4, 22), "{harm}: {sweep:?}");
    }
    assert_eq!(net.ossec("delete", CLIENT4), 0);
    assert!(reaches(&net.client, HOST4, 22));
}

#[test]
fn unblock_and_a_full_disk() {
    let root = Root::with(
        &[("firewall-drop", &guests::response("firewall-drop"))],
        "ossec",
        "nftables",
    );
    let host = Netns::new("disk");
    let retort = |arguments: &[&str]| {
        let output = host
            .command(support::root::RETORT)
            .arg("--root")
            .arg(root.path())
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let call = |address: &str| {
        let arguments = ["add", "-", address, "1.1", "5712", "/x", "-"];
        host.command(root.bin("firewall-drop"))
            .args(arguments)
            .status()
            .unwrap()
            .code()
            .unwrap()
    };
    assert_eq!(call("203.0.113.7"), 0, "{}", root.log());
    assert!(retort(&["unblock", "203.0.113.7"]).contains("done"));
    assert!(!host.sh("nft list ruleset").contains("203.0.113.7"));

    // A journal that can't be written: the block happens, short and loud.
    let journal = root.path().join("retort/journal.db");
    let kept = root.path().join("retort/kept");
    std::fs::rename(&journal, &kept).unwrap();
    std::fs::create_dir(&journal).unwrap();
    assert_eq!(call("203.0.113.8"), 0, "{}", root.log());
    let table = host.sh("nft list ruleset");
    assert!(table.contains("203.0.113.8 timeout 10m"), "{table}");
    assert!(
        root.log().contains("WARNING: blocked without the journal"),
        "{}",
        root.log()
    );
    let _ = Command::new("true").status();
}
