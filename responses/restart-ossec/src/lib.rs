//! Restarts the daemons. There is nothing to take back.

use retort_guest::{Action, Error, Event, process};

fn handle(event: Event) -> Result<(), Error> {
    match event.action {
        Action::Add => process::run("restart").map(drop),
        Action::Delete => Ok(()),
    }
}

retort_guest::response!(handle);

#[cfg(test)]
mod tests {
    use retort_guest::testing::{Call, host};

    use super::*;

    #[test]
    fn add_restarts_and_delete_does_nothing() {
        host(|host| host.helpers.insert("restart".into(), Ok(0)));
        handle(retort_guest::event(Action::Add)).unwrap();
        handle(retort_guest::event(Action::Delete)).unwrap();
        assert_eq!(
            host(|host| host.calls.clone()),
            [Call::Run("restart".into())]
        );
    }

    #[test]
    fn without_the_helper_it_says_so() {
        assert!(matches!(
            handle(retort_guest::event(Action::Add)),
            Err(Error::Denied(_))
        ));
    }
}
