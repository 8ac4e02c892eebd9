//! Wants the network.

use retort_guest::{Error, Event};

fn handle(_: Event) -> Result<(), Error> {
    std::net::TcpStream::connect("192.0.2.1:80").map(drop).map_err(|e| Error::Failed(e.to_string()))
}

retort_guest::response!(handle);
