//! The table: what is in it, whether it is ours and whole, and how it is made.

use std::io;

use netlink_bindings::nftables::{
    self as nft, CmpOps, PayloadBase, PushExprListAttrs, PushRuleAttrs, Registers,
};
use netlink_bindings::traits::Pusher;
use nix::libc;

use super::{Error, INET, Nftables, header};

pub(super) const CHAIN: &str = "early";
pub(super) const SET4: &str = "blocked4";
pub(super) const SET6: &str = "blocked6";
pub(super) const NETWORKS4: &str = "networks4";
pub(super) const NETWORKS6: &str = "networks6";

/// The comment that `nft list table` shows, and that makes the table ours. The
/// layout's number is part of it: another layout is rebuilt.
const MARK: &str = "made by retort; layout 2";

/// What the mark of every layout begins with.
const MARKED: &[u8] = b"made by retort; layout ";

/// Before connection tracking (-200) and destination NAT (-100): established
/// connections and published container ports are cut too.
const PRIORITY: i32 = -310;

const HOOK_PREROUTING: u32 = 0;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
const META_IIFTYPE: u32 = 8;
const META_NFPROTO: u32 = 15;
/// `ARPHRD_LOOPBACK`: the loopback device, whatever its name.
const LOOPBACK: u16 = 772;
/// `NFT_TABLE_F_DORMANT`: the table is there and does nothing.
const DORMANT: u32 = 1;
const SET_INTERVAL: u32 = 0x4;
const SET_TIMEOUT: u32 = 0x10;
const TYPE_IPV4_ADDR: u32 = 7;
const TYPE_IPV6_ADDR: u32 = 8;

/// The rules of the chain; the kernel counts them in its `use`.
const RULES: u32 = 5;

/// A chain and four sets; the kernel counts them in the table's `use`.
const PARTS: u32 = 5;

/// The type of a comment in user data (`NFTNL_UDATA_TABLE_COMMENT`, and that of elements).
const COMMENT: u8 = 0;

/// Numbers that a batch takes: more than it has messages, a thousand elements each.
const MESSAGES: u32 = 1 << 16;

/// How the kernel has our table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// There is none.
    Missing,
    /// Someone took rules, chains or sets out of it, or another version made it.
    Damaged,
    /// As we made it.
    Whole,
}

impl Nftables {
    /// Whether our table is there, whole, and ours.
    pub(super) fn state(&mut self) -> io::Result<Result<State, Error>> {
        let (mut ours, mut changed) = (None, false);
        let mut request = nft::Request::new().op_gettable_do(&header());
        request.encode().push_name_bytes(self.table.as_bytes());
        let asked = self.netlink.request(&request, |(_, table)| {
            let data = table.get_userdata().unwrap_or_default();
            ours = Some(data.get(2..).is_some_and(|text| text.starts_with(MARKED)));
            changed = data != comment(MARK).as_slice()
                || table.get_use() != Ok(PARTS)
                || table.get_flags().is_ok_and(|flags| flags & DORMANT != 0);
        });
        if missing(asked)? {
            return Ok(Ok(State::Missing));
        }
        if ours != Some(true) {
            return Ok(Err(Error::Foreign {
                table: self.table.clone(),
            }));
        }
        let mut whole = !changed && self.chain_is_whole()?;
        for set in [SET4, SET6, NETWORKS4, NETWORKS6] {
            whole = whole && self.has_set(set)?;
        }
        Ok(Ok(if whole { State::Whole } else { State::Damaged }))
    }

    fn chain_is_whole(&mut self) -> io::Result<bool> {
        let mut whole = false;
        let mut request = nft::Request::new().op_getchain_do(&header());
        request
            .encode()
            .push_table_bytes(self.table.as_bytes())
            .push_name_bytes(CHAIN.as_bytes());
        let asked = self.netlink.request(&request, |(_, chain)| {
            let hooked = chain.get_hook().is_ok_and(|hook| {
                hook.get_num() == Ok(HOOK_PREROUTING) && hook.get_priority() == Ok(PRIORITY)
            });
            let accepts = chain.get_policy() == Ok(NF_ACCEPT);
            whole = hooked && accepts && chain.get_use() == Ok(RULES);
        });
        Ok(!missing(asked)? && whole)
    }

    fn has_set(&mut self, set: &str) -> io::Result<bool> {
        let mut request = nft::Request::new().op_getset_do(&header());
        request
            .encode()
            .push_table_bytes(self.table.as_bytes())
            .push_name_bytes(set.as_bytes());
        Ok(!missing(self.netlink.request(&request, |_| {}))?)
    }

    /// An empty transaction on the kernel's present generation.
    pub(super) fn batch(&mut self) -> io::Result<Batch> {
        let mut generation = None;
        let request = nft::Request::new().op_getgen_do(&nft::Nfgenmsg::new());
        self.netlink
            .request(&request, |(_, answer)| generation = answer.get_id().ok())?;
        let first = self.netlink.reserve(MESSAGES);
        let mut chained = nft::Chained::new(first);
        let mut begin = chained.request().op_batch_begin_do(&batch_header());
        if let Some(generation) = generation {
            begin.encode().push_genid(generation);
        }
        drop(begin);
        Ok(Batch {
            chained,
            table: self.table.clone(),
            first,
            messages: 1,
        })
    }

    /// Sends the transaction: all of it, or nothing.
    pub(super) fn commit(&mut self, mut batch: Batch) -> io::Result<()> {
        let last = batch.first.wrapping_add(batch.messages).wrapping_sub(1);
        if batch.messages == 1 {
            return Ok(());
        }
        batch.chained.request().op_batch_end_do(&batch_header());
        let chained = batch.chained.finalize();
        self.netlink.batch(chained.buf(), last)
    }
}

/// A transaction under construction.
pub(super) struct Batch {
    pub(super) chained: nft::Chained<'static>,
    pub(super) table: String,
    first: u32,
    messages: u32,
}

impl Batch {
    /// Counts a message: the caller adds exactly one.
    pub(super) fn message(&mut self) -> nft::Request<'_> {
        self.messages = self.messages.saturating_add(1);
        self.chained.request()
    }

    pub(super) fn delete_table(&mut self) {
        let table = self.table.clone();
        self.message()
            .op_deltable_do(&header())
            .encode()
            .push_name_bytes(table.as_bytes());
    }

    /// Table, sets, chain and rules.
    pub(super) fn create_table(&mut self) {
        let table = self.table.clone();
        self.message()
            .set_create()
            .op_newtable_do(&header())
            .encode()
            .push_name_bytes(table.as_bytes())
            .push_userdata(&comment(MARK));
        self.create_set(SET4, SET_TIMEOUT, TYPE_IPV4_ADDR, 4, 1);
        self.create_set(SET6, SET_TIMEOUT, TYPE_IPV6_ADDR, 16, 2);
        self.create_set(NETWORKS4, SET_INTERVAL, TYPE_IPV4_ADDR, 4, 3);
        self.create_set(NETWORKS6, SET_INTERVAL, TYPE_IPV6_ADDR, 16, 4);
        self.message()
            .set_create()
            .op_newchain_do(&header())
            .encode()
            .push_table_bytes(table.as_bytes())
            .push_name_bytes(CHAIN.as_bytes())
            .nested_hook()
            .push_num(HOOK_PREROUTING)
            .push_priority(PRIORITY)
            .end_nested()
            .push_policy(NF_ACCEPT)
            .push_type_bytes(b"filter");
        self.rule(|list| {
            verdict(
                meets_meta(list, META_IIFTYPE, &LOOPBACK.to_ne_bytes()),
                NF_ACCEPT,
            )
        });
        for (family, offset, length, set) in [
            (libc::AF_INET, 12, 4, SET4),
            (libc::AF_INET6, 8, 16, SET6),
            (libc::AF_INET, 12, 4, NETWORKS4),
            (libc::AF_INET6, 8, 16, NETWORKS6),
        ] {
            self.rule(|list| {
                let list = meets_meta(list, META_NFPROTO, &[libc_family(family)]);
                verdict(source_in(list, offset, length, set), NF_DROP)
            });
        }
    }

    fn create_set(&mut self, set: &str, flags: u32, kind: u32, length: u32, id: u32) {
        let table = self.table.clone();
        self.message()
            .set_create()
            .op_newset_do(&header())
            .encode()
            .push_table_bytes(table.as_bytes())
            .push_name_bytes(set.as_bytes())
            .push_flags(flags)
            .push_key_type(kind)
            .push_key_len(length)
            .push_id(id);
    }

    fn rule(&mut self, expressions: impl FnOnce(Expressions<'_>) -> Expressions<'_>) {
        let table = self.table.clone();
        let mut rule = self
            .message()
            .set_create()
            .set_append()
            .op_newrule_do(&header());
        let rule = rule
            .encode()
            .push_table_bytes(table.as_bytes())
            .push_chain_bytes(CHAIN.as_bytes());
        expressions(rule.nested_expressions()).end_nested();
    }
}

type Expressions<'a> = PushExprListAttrs<PushRuleAttrs<&'a mut Vec<u8>>>;

/// `meta <key> == <value>`.
fn meets_meta<P: Pusher>(
    list: PushExprListAttrs<P>,
    key: u32,
    value: &[u8],
) -> PushExprListAttrs<P> {
    list.nested_elem()
        .nested_data_meta()
        .push_key(key)
        .push_dreg(Registers::Reg1 as u32)
        .end_nested()
        .end_nested()
        .nested_elem()
        .nested_data_cmp()
        .push_sreg(Registers::Reg1 as u32)
        .push_op(CmpOps::Eq as u32)
        .nested_data()
        .push_value(value)
        .end_nested()
        .end_nested()
        .end_nested()
}

/// `ip saddr @<set>`, by the place of the source address in the header.
fn source_in<P: Pusher>(
    list: PushExprListAttrs<P>,
    offset: u32,
    length: u32,
    set: &str,
) -> PushExprListAttrs<P> {
    list.nested_elem()
        .nested_data_payload()
        .push_dreg(Registers::Reg1 as u32)
        .push_base(PayloadBase::NetworkHeader as u32)
        .push_offset(offset)
        .push_len(length)
        .end_nested()
        .end_nested()
        .nested_elem()
        .nested_data_lookup()
        .push_set_bytes(set.as_bytes())
        // Attribute 2 is `sreg` in the kernel (nf_tables.h); the specification that
        // the bindings are made from calls it `set-id`. A test looks at the rule.
        .push_set_id(Registers::Reg1 as u32)
        .end_nested()
        .end_nested()
}

fn verdict<P: Pusher>(list: PushExprListAttrs<P>, code: u32) -> PushExprListAttrs<P> {
    list.nested_elem()
        .nested_data_immediate()
        .push_dreg(Registers::RegVerdict as u32)
        .nested_data()
        .nested_verdict()
        .push_code(code)
        .end_nested()
        .end_nested()
        .end_nested()
        .end_nested()
}

fn libc_family(family: i32) -> u8 {
    u8::try_from(family).unwrap_or(INET)
}

/// A comment as `nft` writes it into the user data of a table or an element.
pub(super) fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    let mut data = vec![COMMENT, length.saturating_add(1)];
    data.extend(text.as_bytes());
    data.push(0);
    data
}

fn batch_header() -> nft::Nfgenmsg {
    let mut header = nft::Nfgenmsg::new();
    // The subsystem that the batch is for: NFNL_SUBSYS_NFTABLES.
    header.set_res_id(10);
    header
}

/// Whether the kernel has no such thing.
pub(super) fn missing(asked: io::Result<()>) -> io::Result<bool> {
    match asked {
        Ok(()) => Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Tells a kernel without nf_tables from one that did not like a message.
pub(super) fn kernel_has_nf_tables() -> bool {
    let asked = super::Netlink::open(
        nix::sys::socket::SockProtocol::NetlinkNetFilter,
        std::time::Duration::from_millis(200),
    )
    .and_then(|mut netlink| {
        let request = nft::Request::new().op_getgen_do(&nft::Nfgenmsg::new());
        netlink.request(&request, |_| {})
    });
    match asked {
        Ok(()) => true,
        Err(error) => !matches!(
            error.raw_os_error(),
            Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT)
        ),
    }
}
