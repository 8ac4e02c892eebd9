//! The stand-in execd, a process of its own: what it starts has it as its owner, and
//! it can be killed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::root::ossec_words;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/execd.py");

/// See the module.
pub struct Execd {
    child: Child,
    say: ChildStdin,
    hear: BufReader<ChildStdout>,
}

impl Execd {
    pub fn start(root: &Path) -> Self {
        let mut child = Command::new("python3")
            .arg(SCRIPT)
            .arg(root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let say = child.stdin.take().unwrap();
        let hear = BufReader::new(child.stdout.take().unwrap());
        Self { child, say, hear }
    }

    pub fn order(&mut self, order: &Value) -> Value {
        writeln!(self.say, "{order}").unwrap();
        let mut line = String::new();
        self.hear.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}: {order}"))
    }

    /// One alert of Wazuh, with what the order is to have besides.
    pub fn wazuh(&mut self, executable: &str, message: &Value, besides: &Value) -> Value {
        let mut order = json!({"op": "wazuh", "executable": executable, "message": message});
        for (key, value) in besides.as_object().unwrap() {
            order[key] = value.clone();
        }
        self.order(&order)
    }

    /// Messages of OSSEC for these addresses, at once.
    pub fn ossec(&mut self, executable: &str, addresses: &[String], timeout: u32) -> Vec<Value> {
        let messages: Vec<Value> = addresses.iter().map(|address| words(address)).collect();
        let order = json!({
            "op": "ossec", "executable": executable, "messages": messages, "timeout": timeout
        });
        self.order(&order).as_array().unwrap().clone()
    }

    /// Its scan for timeouts; the exit statuses of the deletes.
    pub fn tick(&mut self) -> Vec<Value> {
        self.order(&json!({"op": "tick"}))
            .as_array()
            .unwrap()
            .clone()
    }

    /// SIGTERM: it undoes what it has pending, and goes.
    pub fn terminate(self) {
        self.end(Signal::SIGTERM);
    }

    /// SIGKILL: it undoes nothing.
    pub fn kill(self) {
        self.end(Signal::SIGKILL);
    }

    fn end(mut self, signal: Signal) {
        kill(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            signal,
        )
        .unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Execd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The arguments of OSSEC for an address.
pub fn words(address: &str) -> Value {
    json!(ossec_words("add", address))
}

/// A message of Wazuh 4 for an address.
pub fn alert(address: &str) -> Value {
    json!({
        "version": 1, "origin": {"name": "node01", "module": "wazuh-execd"}, "command": "add",
        "parameters": {
            "extra_args": [], "alert": {"data": {"srcip": address}},
            "program": "active-response/bin/firewall-drop"
        }
    })
}

/// The event of Wazuh 5 for an address.
pub fn event(address: &str) -> Value {
    json!({
        "source": {"ip": address},
        "wazuh": {"active_response": {
            "name": "block", "executable": "firewall-drop", "type": "stateful",
            "stateful_timeout": 60, "location": "local", "extra_arguments": ""
        }},
        "command": "enable"
    })
}
