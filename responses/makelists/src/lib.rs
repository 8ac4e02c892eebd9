//! Rebuilds the CDB lists of the server.

use retort_guest::{Action, Error, Event, hostname, log, process};

fn handle(event: Event) -> Result<(), Error> {
    if event.action == Action::Delete {
        return Ok(());
    }
    let here = hostname::get();
    match process::run("makelists")? {
        0 => {
            log::info(&format!("the lists of {here} are rebuilt"));
            Ok(())
        }
        code => Err(Error::Failed(format!(
            "ossec-makelists on {here} ended with {code}"
        ))),
    }
}

retort_guest::response!(handle);

#[cfg(test)]
mod tests {
    use retort_guest::testing::host;

    use super::*;

    #[test]
    fn it_says_where_the_lists_were_rebuilt() {
        host(|host| {
            host.hostname = "siem-1".into();
            host.helpers.insert("makelists".into(), Ok(0));
        });
        handle(retort_guest::event(Action::Add)).unwrap();
        assert!(host(|host| host.lines[0].1.contains("siem-1")));
    }

    #[test]
    fn an_exit_code_is_a_failure() {
        host(|host| host.helpers.insert("makelists".into(), Ok(3)));
        let answer = handle(retort_guest::event(Action::Add));
        assert!(matches!(answer, Err(Error::Failed(why)) if why.contains("ended with 3")));
    }

    #[test]
    fn there_is_nothing_to_take_back() {
        handle(retort_guest::event(Action::Delete)).unwrap();
        assert!(host(|host| host.calls.is_empty()));
    }
}
