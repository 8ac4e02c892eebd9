//! Real packets: a client, a host with an installation, its gateway and a service
//! behind destination NAT, each in a network namespace.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::guests;
use super::netns::Netns;
use super::root::Root;

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
    try:
        while data := connection.recv(100):
            connection.sendall(data)
    except OSError:
        pass
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
pub struct Connection {
    child: Child,
    say: ChildStdin,
    hear: BufReader<ChildStdout>,
}

impl Connection {
    /// None where none comes about.
    pub fn open(netns: &Netns, address: &str, port: u16) -> Option<Self> {
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

    pub fn works(&mut self) -> bool {
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

pub fn reaches(netns: &Netns, address: &str, port: u16) -> bool {
    Connection::open(netns, address, port).is_some_and(|mut connection| connection.works())
}

/// Client, host, gateway and service, and an installation on the host.
pub struct Net {
    pub client: Netns,
    pub host: Netns,
    pub gateway: Netns,
    pub service: Netns,
    pub root: Root,
    _servers: Vec<Server>,
}

pub const HOST4: &str = "192.0.2.1";
pub const HOST6: &str = "2001:db8:1::1";
pub const CLIENT4: &str = "192.0.2.9";
pub const CLIENT6: &str = "2001:db8:1::9";
pub const GATEWAY4: &str = "198.51.100.1";

impl Net {
    pub fn new(dialect: &str) -> Self {
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
    pub fn others(&self) -> String {
        ["ip published", "inet filter"]
            .iter()
            .map(|t| self.host.sh(&format!("nft list table {t}")))
            .collect()
    }

    /// A Wazuh message through the link, in the host's namespace.
    pub fn wazuh(&self, command: &str, srcip: &str) -> i32 {
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

    pub fn ossec(&self, action: &str, srcip: &str) -> i32 {
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
