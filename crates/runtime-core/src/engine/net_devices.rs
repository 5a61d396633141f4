//! Moves network devices into the container's namespace (config-linux.md, "Network Devices"), by rtnetlink(7). Not here: which
//! (`plan::net_devices`).

use crate::error::{Context, Error, Result};
use crate::plan::net_devices::NetDevices;
use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable, Parseable,
};
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkFlags, LinkHeader};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Moves all `devices` into the network namespace of the process `pid`, or of the path they name.
///
/// # Errors
/// Names the device. Those that were moved already are back with their names and addresses then, as far as the kernel lets them.
pub(crate) fn give(proc: &OwnedFd, pid: i32, devices: &NetDevices) -> Result<()> {
    let failed = || "linux.netDevices: open the network namespace";
    let open = |dir, path: &str| openat(dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(failed);
    let host = Side::here(open(proc.as_fd(), "self/ns/net")?).context(failed)?;
    let container = match &devices.path {
        Some(path) => open(CWD, path)?,
        None => open(proc.as_fd(), &format!("{pid}/ns/net"))?,
    };
    let container = Side::of(container).context(failed)?;
    for (i, (outside, inside)) in devices.names.iter().enumerate() {
        if let Err(e) = host.hand_over(outside, &container, inside, true) {
            for (outside, inside) in devices.names[..i].iter().rev() {
                if let Err(e) = container.hand_over(inside, &host, outside, true) {
                    tracing::warn!("give the network device `{outside}` back: {e}");
                }
            }
            return Err(e.context(format!("linux.netDevices.{outside}")));
        }
    }
    Ok(())
}

/// A network namespace and a socket in it.
struct Side {
    namespace: OwnedFd,
    socket: OwnedFd,
}

impl Side {
    /// The namespace this process is in.
    fn here(namespace: OwnedFd) -> io::Result<Self> {
        Ok(Self { namespace, socket: socket()? })
    }

    /// Another one. A socket stays in the namespace of the thread that makes it, and only that thread goes there.
    fn of(namespace: OwnedFd) -> io::Result<Self> {
        let there = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            socket()
        };
        let socket = std::thread::scope(|scope| scope.spawn(there).join());
        let socket = socket.unwrap_or_else(|_| Err(io::Error::other("the thread in the other network namespace failed")))?;
        Ok(Self { namespace, socket })
    }

    fn index(&self, name: &str) -> io::Result<u32> {
        Ok(netdevice::name_to_index(&self.socket, name)?)
    }

    /// Moves a device to `to`, with the addresses that are its own, and sets it up. One that does not arrive whole is moved back if
    /// `undo` says so.
    fn hand_over(&self, name: &str, to: &Self, new: &str, undo: bool) -> Result<()> {
        let index = self.index(name).context(|| format!("find the network device `{name}`"))?;
        // Checked first, since the kernel moves before it renames.
        if to.index(new).is_ok() {
            return Err(Error::sys(libc::EEXIST, format!("move the network device `{name}`: there is a `{new}`")));
        }
        let addresses = self.addresses(index).context(|| format!("list the addresses of `{name}`"))?;
        let namespace = to.namespace.as_raw_fd().to_ne_bytes().to_vec();
        let with_end = [new.as_bytes(), b"\0"].concat();
        let attributes = vec![DefaultNla::new(libc::IFLA_NET_NS_FD, namespace), DefaultNla::new(libc::IFLA_IFNAME, with_end)];
        let moved = self
            .ask(Route::SetLink(LinkHeader { index, ..LinkHeader::default() }, attributes), NLM_F_ACK)
            .context(|| format!("move the network device `{name}`"));
        let arrived = moved.and_then(|_| to.arrive(name, new, addresses));
        if arrived.is_err() && undo && self.index(name).is_err() {
            // It may have either name.
            let at = if to.index(new).is_ok() { new } else { name };
            if let Err(e) = to.hand_over(at, self, name, false) {
                tracing::warn!("give the network device `{name}` back: {e}");
            }
        }
        arrived
    }

    /// Gives a device that has just come its addresses, and sets it up.
    fn arrive(&self, old: &str, name: &str, addresses: Vec<AddressMessage>) -> Result<()> {
        let index = self.index(name).context(|| format!("find the network device `{name}` in the other namespace"))?;
        for mut address in addresses {
            address.header.index = index;
            // The kernel counts lifetimes; a label begins with the device's name.
            address.attributes.retain(|a| !matches!(a, AddressAttribute::CacheInfo(_)));
            for attribute in &mut address.attributes {
                if let AddressAttribute::Label(label) = attribute
                    && let Some(rest) = label.strip_prefix(old)
                {
                    *label = format!("{name}{rest}");
                }
            }
            self.ask(Route::NewAddress(address), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
                .context(|| format!("give the network device `{name}` its addresses"))?;
        }
        let up = LinkHeader { index, flags: LinkFlags::Up, change_mask: LinkFlags::Up, ..LinkHeader::default() };
        self.ask(Route::SetLink(up, Vec::new()), NLM_F_ACK).context(|| format!("set the network device `{name}` up")).map(drop)
    }

    /// The addresses that somebody gave the device for good: what is left out, the kernel makes anew.
    fn addresses(&self, index: u32) -> io::Result<Vec<AddressMessage>> {
        let of_device = |answer| match answer {
            Route::NewAddress(a) if a.header.index == index => Some(a),
            _ => None,
        };
        let own = |a: &AddressMessage| a.header.scope == AddressScope::Universe && a.header.flags.contains(AddressHeaderFlags::Permanent);
        let all = self.ask(Route::GetAddress(AddressMessage::default()), NLM_F_DUMP)?;
        Ok(all.into_iter().filter_map(of_device).filter(own).collect())
    }

    /// Sends a request and receives all of its answer, the acknowledgement included.
    fn ask(&self, request: Route, flags: u16) -> io::Result<Vec<Route>> {
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(request));
        message.header.flags = NLM_F_REQUEST | flags;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        let mut answers = Vec::new();
        // The kernel fills at most 32 KiB at a time (netlink_dump).
        let mut buffer = vec![0; 64 << 10];
        loop {
            let (_, size) = rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::empty())?;
            let mut rest = buffer.get(..size).ok_or_else(|| damaged("longer than 64 KiB"))?;
            while !rest.is_empty() {
                let answer = NetlinkMessage::<Route>::deserialize(rest).map_err(|e| damaged(&e.to_string()))?;
                let length = (answer.header.length as usize).next_multiple_of(4).max(16);
                rest = rest.get(length..).unwrap_or_default();
                match answer.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(e) => return e.code.map_or(Ok(answers), |_| Err(e.to_io())),
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    _ => {}
                }
            }
        }
    }
}

/// The messages that are exchanged here (rtnetlink(7)). The package has an enumeration of all, which brings the code for each of them into the program: 14 kB of
/// that are addresses, which every process that starts has to relocate.
#[derive(Debug)]
enum Route {
    SetLink(LinkHeader, Vec<DefaultNla>),
    NewAddress(AddressMessage),
    GetAddress(AddressMessage),
    /// One that was not asked for.
    Other,
}

impl NetlinkSerializable for Route {
    fn message_type(&self) -> u16 {
        match self {
            Self::SetLink(..) => libc::RTM_SETLINK,
            Self::NewAddress(_) => libc::RTM_NEWADDR,
            Self::GetAddress(_) => libc::RTM_GETADDR,
            Self::Other => libc::NLMSG_NOOP as u16,
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            Self::SetLink(header, attributes) => header.buffer_len() + attributes.as_slice().buffer_len(),
            Self::NewAddress(address) | Self::GetAddress(address) => address.buffer_len(),
            Self::Other => 0,
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        match self {
            Self::SetLink(header, attributes) => {
                header.emit(buffer);
                attributes.as_slice().emit(&mut buffer[header.buffer_len()..]);
            }
            Self::NewAddress(address) | Self::GetAddress(address) => address.emit(buffer),
            Self::Other => {}
        }
    }
}

impl NetlinkDeserializable for Route {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> std::result::Result<Self, DecodeError> {
        match header.message_type {
            libc::RTM_NEWADDR => AddressMessage::parse(payload).map(Self::NewAddress),
            _ => Ok(Self::Other),
        }
    }
}

fn damaged(why: &str) -> io::Error {
    io::Error::other(format!("an answer of rtnetlink: {why}"))
}

fn socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?)
}
