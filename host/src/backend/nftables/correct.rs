//! Everything that the table holds against what it should: one look at all of it, one
//! transaction on what was seen.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use super::networks::{joined, merged, subnets};
use super::table::State;
use super::{Error, LONGEST, Nftables};
use crate::backend::{Corrected, Correction, Element, Found};

impl Nftables {
    /// See [`crate::backend::Backend::correct`].
    ///
    /// # Errors
    /// See [`Error`].
    pub fn correct(
        &mut self,
        mut judge: impl FnMut(&Found) -> Correction,
    ) -> Result<(Corrected, Correction), Error> {
        self.again("put the table right", |nft| nft.correct_once(&mut judge))
    }

    fn correct_once(
        &mut self,
        judge: &mut impl FnMut(&Found) -> Correction,
    ) -> io::Result<Result<(Corrected, Correction), Error>> {
        let mut batch = self.batch()?;
        let state = match self.state()? {
            Ok(state) => state,
            Err(error) => return Ok(Err(error)),
        };
        let (mut hosts, ranges) = match state {
            State::Missing => (Vec::new(), Vec::new()),
            State::Damaged | State::Whole => (self.dump()?, self.dump_ranges()?),
        };
        hosts.sort_unstable_by_key(|(address, _)| *address);
        let networks = subnets(&joined(ranges.clone()));
        let found = Found { hosts, networks };
        let correction = judge(&found);
        let corrected = match state {
            State::Whole => Corrected::Kept,
            State::Damaged => Corrected::Rebuilt,
            State::Missing if correction.is_none() => Corrected::Kept,
            State::Missing => Corrected::Made,
        };
        if corrected == Corrected::Kept && correction.is_none() {
            return Ok(Ok((corrected, correction)));
        }
        let wanted = correction.networks.as_deref().map(merged);
        let wanted = wanted.unwrap_or_else(|| ranges.clone());
        let set = correction.set.iter().map(|element| element.address);
        let touched: BTreeSet<IpAddr> = correction.remove.iter().copied().chain(set).collect();
        let there = found.hosts.into_iter();
        if state == State::Whole {
            let gone = there.map(|(address, _)| address);
            let gone: Vec<IpAddr> = gone.filter(|address| touched.contains(address)).collect();
            batch.remove(&gone);
            batch.change_ranges(&ranges, &wanted);
        } else {
            if state == State::Damaged {
                batch.delete_table();
            }
            batch.create_table();
            let kept = there.filter(|(address, _)| !touched.contains(address));
            let kept: Vec<Element> = kept
                .map(|(address, seen)| Element {
                    address,
                    timeout: seen.expires_in.unwrap_or(LONGEST),
                    unjournaled: seen.unjournaled,
                })
                .collect();
            batch.add(&kept);
            batch.add_ranges(&wanted);
        }
        batch.add(&correction.set);
        self.commit(batch).map(|()| Ok((corrected, correction)))
    }
}
