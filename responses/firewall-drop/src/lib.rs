//! Blocks the attacker's address, and lets it go at the timeout.

use retort_guest::{Action, Error, Event, Network, firewall};

fn handle(event: Event) -> Result<(), Error> {
    let srcip = event
        .srcip
        .ok_or_else(|| Error::Invalid("the event has no srcip".into()))?;
    match event.action {
        Action::Add => firewall::block(Network::host(srcip)),
        Action::Delete => firewall::unblock(Network::host(srcip)),
    }
}

retort_guest::response!(handle);

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use retort_guest::testing::{Call, host};

    use super::*;

    fn event(action: Action) -> Event {
        let attacker: IpAddr = "203.0.113.7".parse().unwrap();
        Event {
            srcip: Some(attacker.into()),
            ..retort_guest::event(action)
        }
    }

    #[test]
    fn add_blocks_and_delete_lets_go() {
        handle(event(Action::Add)).unwrap();
        let blocked = host(|host| host.blocked.clone());
        assert_eq!(blocked.len(), 1);
        assert_eq!(blocked[0].prefix_length, 32);
        handle(event(Action::Delete)).unwrap();
        assert!(host(|host| host.blocked.is_empty()));
    }

    #[test]
    fn without_an_address_nothing_is_asked() {
        let answer = handle(retort_guest::event(Action::Add));
        assert!(matches!(answer, Err(Error::Invalid(_))));
        assert!(host(|host| host.calls.is_empty()));
    }

    #[test]
    fn a_refusal_is_passed_on() {
        let denied = Error::Denied("protected".into());
        host(|host| host.firewall_error = Some(denied.clone()));
        assert_eq!(handle(event(Action::Add)), Err(denied));
        assert!(matches!(
            host(|host| host.calls.clone())[..],
            [Call::Block(_)]
        ));
    }
}
